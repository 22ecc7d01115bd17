"""The real VS Code where not everything is as one would like it: no service at the start, a workspace that nobody has
vouched for, several folders with settings of their own. One code-server for all, which trusts none by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.prompter import Prompter
from tests.e2e.vscode_editor import CodeServer, Window, chromium, code_server
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def port() -> int:
    """Where the user's service is found, if it runs."""
    with Prompter() as service:
        return service.port


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeServer]:
    folder = tmp_path_factory.mktemp("vscode")
    with code_server(folder, trusts=False, endpoint=f"http://127.0.0.1:{port}") as running:
        yield running


def workspace(server: CodeServer, name: str, **settings: Any) -> Path:
    """A folder with settings of its own."""
    folder = server.folder / name
    (folder / ".vscode").mkdir(parents=True)
    ours = {f"midfill.{key}": value for key, value in settings.items()}
    (folder / ".vscode" / "settings.json").write_text(json.dumps(ours))
    return folder


def begin_add(window: Window, name: str) -> None:
    window.open(name, "def add(a, b):\n", line=1)
    window.type("    ret")


def test_a_start_without_the_service(server: CodeServer, browser: Browser, port: int) -> None:
    window = server.window(browser, "start.py", status="no service answers at")
    assert window.status_icon() == "warning"
    window.command("Notifications: Clear All Notifications")  # the welcome
    begin_add(window, "offline.py")
    assert window.ghost_within(2.0) == {""}
    window.screenshot("offline")
    assert window.notifications() == []
    with Prompter(port) as service:
        service.follow(ADD)
        window.wait_for_status("ready$")
        window.type("u")
        window.wait_for_ghost("rn a + b")
    window.type("x")
    window.wait_for_status("no service answers at")
    with Prompter(port) as service:
        service.follow(ADD)
        window.wait_for_status("ready$")
        window.press("Backspace")
        window.wait_for_ghost("rn a + b")
    assert not [text for text in window.notifications() if "idfill" in text]
    window.page.close()


def test_an_untrusted_workspace_neither_runs_anything_nor_redirects_code(
    server: CodeServer, browser: Browser, port: int, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    touch = ["/bin/sh", "-c", f"touch {ran}"]
    with Prompter(port) as service, Prompter() as thief:
        service.follow(ADD)
        folder = workspace(
            server,
            "cloned",
            endpoint=thief.url,
            fallbackEndpoints=[thief.url],
            proxy=thief.url,
            serverCommand=touch,
            tokenCommand=touch,
            redactSecrets=False,
            disabledGlobs=["!.env"],
            disabledLanguages=["markdown"],
        )
        window = server.window(browser, "start.py", workspace=folder)
        begin_add(window, "add.py")
        window.wait_for_ghost("urn a + b")
        window.open("key.py", "", line=0)
        window.type('api_key = "AKIA' + "Q3EGRIHUZ5XWQ7LM" + '"\nx')
        wait_for("the file with the key to be asked about", lambda: asked(service, "api_key"))
        assert "AKIA" not in str(service.requests)
        window.open(".env", "", line=0)
        window.wait_for_status(r"matches .*\.env.* never sent")
        window.open("notes.md", "", line=0)
        window.wait_for_status("language markdown is switched off")  # what does no harm counts
        assert window.page.locator("text=Restricted Mode").count(), "the workspace was trusted"
        window.screenshot("untrusted")
        assert not ran.exists()
        assert thief.calls == []
        window.page.close()


def asked(service: Prompter, text: str) -> bool:
    return any(text in request["prompt"] for request in service.requests)


@pytest.mark.full
def test_granting_trust_puts_the_workspaces_settings_to_use(server: CodeServer, browser: Browser, port: int) -> None:
    with Prompter(port) as service, Prompter() as teams:
        service.follow(ADD)
        teams.follow(ADD)
        window = server.window(browser, "start.py", workspace=workspace(server, "known", endpoint=teams.url))
        begin_add(window, "before.py")
        window.wait_for_ghost("urn a + b")
        assert teams.calls == []
        window.command("Workspaces: Manage Workspace Trust")
        window.page.locator(".workspace-trust-editor .monaco-button", has_text="Trust").first.click()
        window.open("after.py", "def add(a, b):\n", line=1)
        wait_for("the language server to come back with the other endpoint", lambda: teams.calls)
        window.type("    ret")
        wait_for("the workspace's service to be asked", lambda: asked(teams, "    ret"))
        window.wait_for_ghost("urn a + b")
        window.page.close()


def test_each_folder_of_a_workspace_has_its_settings(server: CodeServer, browser: Browser, port: int) -> None:
    folders = [
        workspace(server, "lines", mode="line", maxTokens=32),
        workspace(server, "blocks", mode="block", disabledLanguages=["markdown"]),
    ]
    both = server.folder / "both.code-workspace"
    both.write_text(json.dumps({"folders": [{"path": folder.name} for folder in folders]}))
    with Prompter(port) as service:
        window = server.window(browser, "lines/start.py", workspace=both)
        for folder, mode, tokens in zip(folders, ("line", "block"), (32, 128), strict=True):
            service.follow(ADD)
            window.workspace = folder
            begin_add(window, "add.py")
            window.wait_for_ghost("urn a + b")
            assert {(request["mode"], request["max_tokens"]) for request in service.requests} == {(mode, tokens)}
            window.open("notes.md", "", line=0)
            window.wait_for_status({"line": "ready$", "block": "language markdown is switched off"}[mode])
        window.page.close()
