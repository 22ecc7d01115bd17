"""The editors offer the language server's settings, with its defaults."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SYNC = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "sync_settings.py"))
PACKAGE_JSON, SETTINGS_LUA = SYNC["PACKAGE_JSON"], SYNC["SETTINGS_LUA"]
REMEDY = "run `python -m tools.sync_settings`"


@pytest.fixture(scope="module")
def server() -> dict[str, dict[str, Any]]:
    """What the installed language server says of itself, by key."""
    command = [sys.executable, "-m", "lsp_server", "settings"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {row["key"]: row for row in json.loads(printed)}


def test_vscode_offers_the_servers_settings(server: dict[str, dict[str, Any]]) -> None:
    properties = json.loads(PACKAGE_JSON.read_text())["contributes"]["configuration"]["properties"]
    offered = {key: schema for key, schema in properties.items() if schema.get("tags") != ["client"]}
    # The token is a secret: the extension keeps it outside the settings.
    assert set(offered) == set(server) - {"midfill.token"}, REMEDY
    for key, schema in offered.items():
        for name in ("type", "default", "enum", "minimum", "maximum"):
            assert schema.get(name) == server[key].get(name), f"{name} of {key}: {REMEDY}"
        assert schema["description"] == server[key]["doc"], REMEDY


def test_package_json_is_up_to_date() -> None:
    text = PACKAGE_JSON.read_text()
    assert text == SYNC["package_json"](json.loads(text)), REMEDY


def test_lua_settings_are_up_to_date(server: dict[str, dict[str, Any]]) -> None:
    text = SETTINGS_LUA.read_text()
    assert text == SYNC["lua_module"](), REMEDY
    for key in server:
        assert f"{key.split('.')[-1]} = " in text


def test_the_help_of_the_neovim_plugin_is_up_to_date(server: dict[str, dict[str, Any]]) -> None:
    text = SYNC["NEOVIM_HELP"].read_text()
    assert text == SYNC["neovim_help"](text), REMEDY
    assert all(f"`{key.removeprefix('midfill.')}`" in text for key in server)


def test_the_settings_page_is_up_to_date() -> None:
    assert SYNC["SETTINGS_PAGE"].read_text() == SYNC["settings_page"](), REMEDY
