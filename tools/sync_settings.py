"""Writes the language server's settings to where they are repeated: package.json of the VS Code extension,
settings.lua and the help of the Neovim plugin, docs/settings.md. Run it after a change in lsp_server/settings.py;
tests/editors/test_settings_agree.py notices when it was forgotten.

    python -m tools.sync_settings
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from lsp_server.settings import MACHINE, RESOURCE, WINDOW, describe

ROOT = Path(__file__).parent.parent
EDITORS = ROOT / "editors"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
PACKAGE_JSON = EDITORS / "vscode/package.json"
SETTINGS_LUA = EDITORS / "neovim/lua/midfill/settings.lua"
NEOVIM_HELP = EDITORS / "neovim/doc/midfill.txt"

# The extension keeps the token in VS Code's secret storage; settings files get synchronised and published.
NOT_IN_VSCODE = {"midfill.token"}
# Decided by the extension, document by document: `[language]` sections of settings.json may override them.
BY_LANGUAGE = {"midfill.enable", "midfill.trigger"}
LUA_TYPES = {"array": "string[]"}


def vscode_properties() -> dict[str, dict[str, Any]]:
    """The server's settings as VS Code declares them."""
    properties = {}
    for row in describe():
        if row["key"] not in NOT_IN_VSCODE:
            schema = {name: value for name, value in row.items() if name not in ("key", "doc", "scope")}
            properties[row["key"]] = {**schema, "description": row["doc"], "scope": _scope(row)}
    return properties


def _scope(row: dict[str, Any]) -> str:
    # VS Code's "machine" is a race in remote windows; `restrictedConfigurations` below does what is needed.
    if row["key"] in BY_LANGUAGE:
        return "language-overridable"
    return WINDOW if row["scope"] == MACHINE else row["scope"]


def package_json(package: dict[str, Any]) -> str:
    """package.json with the server's settings as of now; the extension's own settings stay, at the end."""
    configuration = package["contributes"]["configuration"]
    own = {key: p for key, p in configuration["properties"].items() if p.get("tags") == ["client"]}
    configuration["properties"] = {**vscode_properties(), **own}
    untrusted = package["capabilities"]["untrustedWorkspaces"]
    machine = [row["key"] for row in describe() if row["scope"] == MACHINE and row["key"] not in NOT_IN_VSCODE]
    known = untrusted["restrictedConfigurations"]
    untrusted["restrictedConfigurations"] = known + [key for key in machine if key not in known]
    return json.dumps(package, indent=2, ensure_ascii=False) + "\n"


def lua_module() -> str:
    """settings.lua: a LuaCATS class and the defaults, nested at the dots of the keys."""
    classes: dict[str, list[str]] = {"midfill.Settings": []}
    defaults: dict[str, Any] = {}
    for row in describe():
        class_name, table = "midfill.Settings", defaults
        *sections, name = row["key"].split(".")[1:]
        for section in sections:
            inner = f"{class_name}.{section}"
            if inner not in classes:
                classes[inner] = []
                classes[class_name].append(f"---@field {section}? {inner}")
            class_name, table = inner, table.setdefault(section, {})
        values = "|".join(f'"{value}"' for value in row.get("enum", ()))
        kind = values or LUA_TYPES.get(row["type"], row["type"])
        classes[class_name].append(f"---@field {name}? {kind} {row['doc']}")
        table[name] = row["default"]
    lines = ["-- Written by tools/sync_settings.py from lsp_server/settings.py.", ""]
    for class_name, members in classes.items():
        lines += [f"---@class {class_name}", *members, ""]
    return "\n".join([*lines, "---@type midfill.Settings", f"return {_lua(defaults)}"]) + "\n"


def neovim_help(text: str) -> str:
    """midfill.txt with a paragraph for each setting under its tag, nested ones with a dot in their names."""
    head, tag, rest = text.partition("*midfill-settings*\n")
    _, end, tail = rest.partition("\nDefaults and types:")
    rows = []
    for row in describe():
        rows += [
            f"`{row['key'].removeprefix('midfill.')}`",
            *textwrap.wrap(row["doc"], 70, initial_indent="    ", subsequent_indent="    ", break_long_words=False),
        ]
    return head + tag + "\n".join(rows) + "\n" + end + tail


def _lua(value: Any, indent: str = "") -> str:
    if isinstance(value, dict):
        inner = indent + "  "
        entries = "".join(f"{inner}{key} = {_lua(item, inner)},\n" for key, item in value.items())
        return f"{{\n{entries}{indent}}}"
    if isinstance(value, list):
        return "{ " + ", ".join(_lua(item) for item in value) + " }" if value else "{}"
    return json.dumps(value)


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings of the editors",
        "",
        "Written by `tools/sync_settings.py` from `lsp_server/settings.py`. VS Code: `midfill.*` in settings.json.",
        'Neovim: the same keys without `midfill.` in `require("midfill").setup{…}`. A change takes effect at once.',
        "VS Code takes those marked * from your own settings only as long as you do not trust a workspace; those",
        "marked † may differ from folder to folder of a workspace with several.",
        "",
        "| key | type | default | what it does |",
        "|---|---|---|---|",
    ]
    for row in describe():
        kind = " \\| ".join(f'"{value}"' for value in row.get("enum", ())) or row["type"]
        if "minimum" in row:
            kind += f", {row['minimum']} to {row['maximum']}"
        mark = {MACHINE: " *", RESOURCE: " †"}.get(row["scope"], "")
        lines.append(f"| `{row['key']}`{mark} | {kind} | `{json.dumps(row['default'])}` | {row['doc']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    PACKAGE_JSON.write_text(package_json(json.loads(PACKAGE_JSON.read_text())))
    SETTINGS_LUA.write_text(lua_module())
    NEOVIM_HELP.write_text(neovim_help(NEOVIM_HELP.read_text()))
    SETTINGS_PAGE.write_text(settings_page())


if __name__ == "__main__":
    main()
