"""The real VS Code with the packed extension and its bundled language server, against a service whose answers are
known. One window for all: a test opens a file of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.prompter import Prompter
from tests.e2e.vscode_editor import CodeServer, Window, chromium, code_server
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

ADD = "def add(a, b):\n    return a + b\n"
BLOCK = "def sign(x):\n    if x < 0:\n        return -1\n    return 1\n"


@pytest.fixture(scope="module")
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        yield running


@pytest.fixture(scope="module")
def server(service: Prompter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeServer]:
    with code_server(tmp_path_factory.mktemp("vscode"), endpoint=service.url) as running:
        yield running


@pytest.fixture(scope="module")
def window(server: CodeServer) -> Iterator[Window]:
    with chromium() as browser:
        window = server.window(browser, "start.txt")
        window.command("Notifications: Clear All Notifications")
        yield window


@pytest.fixture
def file_name(request: pytest.FixtureRequest) -> str:
    """A file that no other test has opened: nothing is in the language server's cache."""
    return f"{request.node.name.removeprefix('test_')}.py"


def test_accept_writes_what_is_shown_and_undo_takes_it_back(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    path = window.open(file_name, "def add(a, b):\n", line=1)
    window.type("    ret")
    window.wait_for_ghost("urn a + b")
    window.screenshot("ghost")
    window.press("Tab")
    wait_for("the ghost text to be accepted", lambda: not window.ghost())
    assert window.saved(path) == ADD.removesuffix("\n")
    wait_for("the acceptance to be reported", lambda: service.reported("accepted"))
    assert service.reported("shown")[0]["completion_id"] == service.reported("accepted")[0]["completion_id"]
    window.press("Control+z")
    assert window.saved(path) == "def add(a, b):\n    ret"


def test_accepting_several_lines(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = window.open(file_name, "def sign(x):\n", line=1)
    window.type("    ")
    window.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    window.screenshot("several-lines")
    window.press("Tab")
    wait_for("the ghost text to be accepted", lambda: not window.ghost())
    assert window.saved(path) == BLOCK.removesuffix("\n")


def test_line_and_word_are_accepted_and_reported(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = window.open(file_name, "def sign(x):\n", line=1)
    window.type("    ")
    window.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    window.press("Control+Alt+ArrowRight")
    wait_for("a line to be accepted", lambda: window.ghost().lstrip() == "return -1\n    return 1")
    wait_for("the line to be reported", lambda: service.reported("partially_accepted"))
    window.press("Control+ArrowRight", "Control+ArrowRight")
    wait_for("two words to be accepted", lambda: "return" not in window.ghost().split("\n")[0])
    assert window.saved(path) == "def sign(x):\n    if x < 0:\n        return"
    assert not service.reported("accepted")


def test_typing_through_needs_no_new_request(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    window.open(file_name, "def add(a, b):\n", line=1)
    window.type("    ret")
    window.wait_for_ghost("urn a + b")
    asked = len(service.requests)
    window.type("urn")
    window.wait_for_ghost(" a + b")
    assert window.ghost_within(1.0) == {" a + b"}
    assert len([request for request in service.requests if request["prompt"].endswith("retu")]) == 0
    assert len(service.requests) <= asked + 1  # what comes after it may be asked for ahead


def test_escape_hides_it_and_tab_indents(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    path = window.open(file_name, "def add(a, b):\n", line=1)
    window.type("    ret")
    window.wait_for_ghost("urn a + b")
    window.press("Escape")
    wait_for("the ghost text to go", lambda: not window.ghost())
    window.press("Tab")
    assert "return" not in window.saved(path)


def test_it_extends_the_popups_entry(window: Window, service: Prompter, file_name: str) -> None:
    service.follow("first_name = 1\nfirst_number = 2\nprint(first_number)\n")
    path = window.open(file_name, "first_name = 1\nfirst_number = 2\nprint(", line=2, column=6)
    window.type("first_nu")
    window.press("Control+Space")
    window.page.locator(".suggest-widget.visible .monaco-list-row.focused", has_text="first_number").wait_for()
    window.wait_for_ghost("mber)")
    window.screenshot("popup")
    window.press("Escape")
    window.wait_for_ghost("mber)")
    window.press("Tab")
    wait_for("the ghost text to be accepted", lambda: not window.ghost())
    assert window.saved(path).endswith("\nprint(first_number)")


def test_a_file_with_crlf_keeps_it(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = window.open(file_name, "def sign(x):\r\n", line=1)
    window.type("    ")
    window.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    window.press("Tab")
    wait_for("the ghost text to be accepted", lambda: not window.ghost())
    assert window.saved(path) == BLOCK.removesuffix("\n").replace("\n", "\r\n")


def test_asking_by_hand_within_a_line(window: Window, service: Prompter, file_name: str) -> None:
    service.follow("total = first + second * 2\n")
    window.open(file_name, "total = * 2\n", line=0, column=len("total = "))
    assert window.ghost_within(1.0) == {""}
    window.press("Alt+\\")
    wait_for("ghost text", window.ghost)


def test_cycling_through_the_answers(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    service.others = ("urn b + a", "urn a - b")
    path = window.open(file_name, "def add(a, b):\n", line=1)
    window.type("    ret")
    window.wait_for_ghost("urn a + b")
    window.press("Alt+]")
    window.wait_for_ghost("urn b + a")
    window.press("Alt+[")
    window.wait_for_ghost("urn a + b")
    window.press("Alt+]", "Tab")
    wait_for("the ghost text to be accepted", lambda: not window.ghost())
    assert window.saved(path) == "def add(a, b):\n    return b + a"


def test_a_notebooks_cell(window: Window, service: Prompter) -> None:
    service.follow("first = 1\n\ntotal = first + 1\n")  # the cells, an empty line between them
    notebook = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": ["first = 1"]},
            {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": []},
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = window.workspace / "cells.ipynb"
    path.write_text(json.dumps(notebook))
    window.quick_open(path)
    window.page.locator(".notebookOverlay .cell-editor-container .view-lines").last.click()
    window.type("total = f")
    wait_for("ghost text", lambda: window.ghost().startswith("irst + 1"))
    window.screenshot("notebook")
    window.press("Tab", "Control+s")
    wait_for("the cell on the disk", lambda: "total = first + 1" in path.read_text())


def test_a_file_of_secrets_is_inactive(window: Window, service: Prompter) -> None:
    service.follow("NAME=value\n")
    window.open(".env", "\n", line=0)
    window.type("NAM")
    window.wait_for_status(r"\.env")
    assert window.ghost_within(1.0) == {""}
    assert not [request for request in service.requests if "NAM" in request["prompt"]]
    window.screenshot("inactive")


def test_settings_take_effect_at_once(window: Window, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    window.open(file_name, "def add(a, b):\n", line=1)
    window.click_status()
    window.screenshot("menu")
    window.pick("Switch completions off for python")
    window.wait_for_status("switched off for python")
    window.focus_editor()
    window.type("    ret")
    assert window.ghost_within(1.0) == {""}
    window.command("Midfill: Switch Completions On or Off for This Language")
    window.wait_for_status("ready")
    window.focus_editor()
    window.type("u")
    window.wait_for_ghost("rn a + b")
    window.command("Midfill: Switch Completions On or Off")
    window.wait_for_status("Midfill: switched off$")
    window.command("Midfill: Switch Completions On or Off")
    window.wait_for_status("ready")


def test_snoozing(window: Window, service: Prompter, file_name: str) -> None:
    window.open(file_name, "\n", line=0)
    window.click_status()
    window.pick("Snooze")
    window.pick("5 minutes")
    window.wait_for_status("snoozed until")
    window.command("Midfill: Snooze")
    window.pick("End the snooze")
    window.wait_for_status("ready")


def test_the_doctor_tells_in_a_page(window: Window, service: Prompter) -> None:
    window.command("Midfill: Doctor: Why Is Nothing Shown?")
    wait_for("the report", lambda: f"✓ {service.url} is " in window.webview())
    assert "Last requests" in window.webview()
    window.screenshot("doctor")


def test_a_killed_language_server_comes_back(
    window: Window, server: CodeServer, service: Prompter, file_name: str
) -> None:
    service.follow(ADD)
    window.open(file_name, "def add(a, b):\n", line=1)
    pattern = f"{server.folder}.*/server/main.py"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True).stdout.split()
    window.note_statuses()
    for process in found:
        os.kill(int(process), signal.SIGKILL)
    wait_for(
        "the end and the new start to be told",
        lambda: re.search("started again in 1 s.*ready", "\n".join(window.noted_statuses()), re.DOTALL),
    )
    window.type("    ret")
    window.wait_for_ghost("urn a + b")


def test_the_key_of_one_service_is_not_shown_to_the_next(window: Window, service: Prompter, file_name: str) -> None:
    def use(url: str, key: str) -> None:
        window.command("Midfill: Use a Team Endpoint")
        window.answer("URL of your service", url)
        window.page.locator(".quick-input-title", has_text="API key of").wait_for()
        if key:
            window.answer("API key of", key)
        else:
            window.press("Escape")

    def keys(asked: Prompter) -> set[str | None]:
        return {call.headers.get("authorization") for call in asked.calls}

    with Prompter() as another:
        another.follow(ADD)
        use(service.url, "sk-first")
        wait_for("the key to be used", lambda: "bearer sk-first" in keys(service))
        use(another.url, "")
        wait_for("the other service to be asked", lambda: another.calls)
        window.open(file_name, "def add(a, b):\n", line=1)
        window.type("    ret")
        window.wait_for_ghost("urn a + b")
        assert keys(another) == {None}
    use(service.url, "")
    window.wait_for_status("ready")


def test_nothing_was_ever_reported_in_a_popup(window: Window) -> None:
    assert window.notifications() == []
