"""The VS Code extension: what package.json promises is in the source, and the package can be built."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
EXTENSION = REPO / "editors" / "vscode"
SOURCE = {path.name: path.read_text() for path in (EXTENSION / "src").glob("*.ts")}
# Names in the server's executeCommandProvider: the language client registers these itself.
SERVER_COMMANDS = {"midfill.accepted", "midfill.toggle", "midfill.snooze", "midfill.showLog", "midfill.doctor"}
NODE_MODULES = {"child_process", "crypto", "fs", "net", "os", "path", "readline", "util"}


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    return json.loads((EXTENSION / "package.json").read_text())


def test_identity(package: dict[str, Any]) -> None:
    pyproject = (REPO / "pyproject.toml").read_text()
    project = dict(re.findall(r'^(version|license) = "(.+)"$', pyproject, re.MULTILINE))
    assert f"{package['publisher']}.{package['name']}" == "midfill.midfill"
    assert package["version"] == project["version"]
    assert package["license"] == project["license"]


def test_commands_are_registered_and_none_is_taken_from_the_server(package: dict[str, Any]) -> None:
    declared = {entry["command"] for entry in package["contributes"]["commands"]}
    registered = set(re.findall(r"command\('(midfill\.\w+)'", SOURCE["extension.ts"]))
    assert declared == registered
    assert not registered & SERVER_COMMANDS
    assert {entry["command"] for entry in package["contributes"]["keybindings"]} <= declared
    offered = set(re.findall(r"'(midfill\.\w+)'\]", SOURCE["extension.ts"]))
    assert offered and offered <= declared, "an entry of the menu runs a command that does not exist"


def test_server_commands_are_those_of_the_server() -> None:
    server = (REPO / "lsp_server" / "server.py").read_text()
    assert {name for name in re.findall(r"\"(midfill\.\w+)\"", server)} <= SERVER_COMMANDS


def test_an_untrusted_workspace_decides_nothing_dangerous(package: dict[str, Any]) -> None:
    trust = package["capabilities"]["untrustedWorkspaces"]
    assert trust["supported"] == "limited"
    dangerous = {"serverCommand", "python", "endpoint", "tokenCommand", "tokenFile", "proxy", "tls.caBundle"}
    assert {f"midfill.{name}" for name in dangerous} <= set(trust["restrictedConfigurations"])
    properties = package["contributes"]["configuration"]["properties"]
    assert set(trust["restrictedConfigurations"]) <= set(properties)


def test_no_setting_has_a_machine_scope(package: dict[str, Any]) -> None:
    """In a remote window VS Code may drop such settings from the user's file: it is a race."""
    for key, schema in package["contributes"]["configuration"]["properties"].items():
        assert schema["scope"] in ("window", "resource", "language-overridable"), key


def test_client_settings_are_kept_from_the_server(package: dict[str, Any]) -> None:
    properties = package["contributes"]["configuration"]["properties"]
    own = {key for key, schema in properties.items() if schema.get("tags") == ["client"]}
    listed = re.search(r"CLIENT_SETTINGS = \[(.*?)\]", SOURCE["server.ts"])
    assert listed and {f"midfill.{name}" for name in re.findall(r"'(\w+)'", listed[1])} == own


def test_the_editor_is_not_older_than_its_types(package: dict[str, Any]) -> None:
    """vsce refuses to package otherwise."""

    def version(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.lstrip("^~").split(".")))

    types, editor = package["devDependencies"]["@types/vscode"], package["engines"]["vscode"]
    assert version(types)[:2] <= version(editor)[:2]


def test_dependencies_are_pinned_and_locked_without_a_registry(package: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"[\d.]+", version) for version in package["devDependencies"].values())
    lock = json.loads((EXTENSION / "package-lock.json").read_text())
    assert lock["version"] == package["version"]
    assert lock["packages"][""]["devDependencies"] == package["devDependencies"]
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]


def test_the_icon_is_a_png_of_at_least_128_pixels(package: dict[str, Any]) -> None:
    data = (EXTENSION / package["icon"]).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width == height >= 128


@pytest.mark.timeout(300)
def test_the_package_builds(package: dict[str, Any], tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI") == "true":
            pytest.fail("npm was not found: install Node.js 20 or newer.")
        pytest.skip("needs npm (Node.js 20 or newer)")
    copy = tmp_path / "vscode"
    shutil.copytree(EXTENSION, copy, ignore=shutil.ignore_patterns("node_modules", "out", "*.vsix"))
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "package"]):
        built = subprocess.run([npm, *arguments], cwd=copy, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(copy / f"midfill-{package['version']}.vsix") as vsix:
        names = set(vsix.namelist())
        bundle = vsix.read("extension/out/extension.js").decode()
    files = [
        "package.json",
        "readme.md",
        "changelog.md",
        "LICENSE.txt",
        "images/icon.png",
        "out/extension.js",
    ]
    assert names == {
        "extension.vsixmanifest",
        "[Content_Types].xml",
        *(f"extension/{name}" for name in files),
    }
    required = set(re.findall(r'require\("(?:node:)?([\w@/.-]+)"\)', bundle))
    assert required <= {"vscode", *NODE_MODULES}, "not bundled: it would be missing at run time"
