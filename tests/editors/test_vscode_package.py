"""The VS Code extension: what package.json promises is in the source, and the package can be built."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.vsix import built_vsix

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
    keys = {entry["command"] for entry in package["contributes"]["keybindings"]}
    assert {command for command in keys if command.startswith("midfill.")} <= declared
    offered = set(re.findall(r"run: '(midfill\.\w+)'", SOURCE["menu.ts"]))
    assert offered and offered <= declared, "an entry of the menu runs a command that does not exist"


def test_the_walkthrough_has_its_pictures_and_commands(package: dict[str, Any]) -> None:
    declared = {entry["command"] for entry in package["contributes"]["commands"]}
    for step in package["contributes"]["walkthroughs"][0]["steps"]:
        assert (EXTENSION / step["media"]["image"]).is_file()
        assert set(re.findall(r"\(command:(midfill\.\w+)\)", step["description"])) <= declared


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


def test_the_server_is_found_by_settings_of_no_machine_scope(package: dict[str, Any]) -> None:
    """In a remote window VS Code may drop such settings from the user's file: it is a race."""
    properties = package["contributes"]["configuration"]["properties"]
    for key in ("midfill.endpoint", "midfill.serverCommand", "midfill.python"):
        assert properties[key]["scope"] == "window"


def test_client_settings_are_kept_from_the_server(package: dict[str, Any]) -> None:
    properties = package["contributes"]["configuration"]["properties"]
    own = {key for key, schema in properties.items() if schema.get("tags") == ["client"]}
    listed = re.search(r"CLIENT_SETTINGS = \[(.*?)\]", SOURCE["command.ts"])
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


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed with the .vsix."""
    folder = tmp_path_factory.mktemp("vsix")
    with zipfile.ZipFile(built_vsix()) as vsix:
        vsix.extractall(folder)
    return folder / "extension"


@pytest.mark.timeout(600)
def test_the_package_is_whole_and_small(unpacked: Path) -> None:
    assert built_vsix().stat().st_size < 10_000_000
    names = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    documents = {"package.json", "readme.md", "changelog.md", "LICENSE.txt", "THIRD_PARTY_NOTICES.txt"}
    assert names > documents | {"images/icon.png", "out/extension.js", "server/main.py"}
    assert not [name for name in names if name.endswith((".ts", ".so", ".pyd", ".pyc", ".map"))]
    bundle = (unpacked / "out" / "extension.js").read_text()
    required = set(re.findall(r'require\("(?:node:)?([\w@/.-]+)"\)', bundle))
    assert required <= {"vscode", *NODE_MODULES}, "not bundled: it would be missing at run time"
    readme = (unpacked / "readme.md").read_text()
    assert all((unpacked / image).is_file() for image in re.findall(r"!\[.*?\]\((.*?)\)", readme))


@pytest.mark.timeout(600)
def test_the_bundled_server_needs_nothing_but_python(unpacked: Path) -> None:
    """-S: without any installed package. It reads the settings, speaks HTTP, and has no packages for its child."""
    main = unpacked / "server" / "main.py"
    modules = [path.stem for path in (main.parent / "lsp_server").glob("*.py") if path.stem != "__main__"]
    script = f"import runpy; runpy.run_path({str(main)!r}); " + "; ".join(f"import lsp_server.{m}" for m in modules)
    done = subprocess.run([sys.executable, "-S", "-P", "-c", script], env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = subprocess.run([sys.executable, "-S", "-P", str(main), "settings"], env={}, capture_output=True)
    assert len(json.loads(settings.stdout)) > 5
    assert {path.name for path in main.parent.iterdir()} == {"main.py", "lsp_server", "libs"}


def test_every_bundled_package_keeps_its_licence(unpacked: Path) -> None:
    packages = list((unpacked / "server" / "libs").glob("*.dist-info"))
    assert len(packages) > 5
    for info in packages:
        assert [path for path in info.rglob("*") if re.match("licen[cs]e", path.name, re.IGNORECASE)], info.name
