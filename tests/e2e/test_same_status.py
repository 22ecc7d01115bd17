"""VS Code and Neovim side by side, in trouble: both show what the language server says, in the same words."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.prompter import Prompter
from tests.e2e.vscode_editor import Window, chromium, code_server
from tests.e2e.waiting import wait_for
from tests.lsp_server.scripted_service import Reply
from tests.vsix import SERVER, built_vsix

pytestmark = pytest.mark.timeout(600)

KEY = "sk-right"
ADD = "def add(a, b):\n    return a + b\n"
ICONS = {"Normal": "sparkle", "Warning": "warning", "Error": "error", "Inactive": "circle-slash"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in which kind of file, and what is to be said about it."""

    kind: str
    says: str
    begin: Callable[[Prompter], object] = lambda service: None
    file: str = "{}.py"


def answers(status: int) -> Callable[[Prompter], object]:
    return lambda service: setattr(service, "fault", Reply(status=status))


FAULTS = {
    "wrong_key": Fault("Warning", "wants a valid API key", lambda service: setattr(service, "required_key", "sk-2")),
    "quota": Fault("Warning", "the quota of this API key", answers(429)),
    "busy": Fault("Warning", "is busy or loading", answers(503)),
    "broken": Fault("Warning", "answered with status 500", answers(500)),
    "secrets": Fault("Inactive", r"the file matches .*\.env.*never sent", file="{}/.env"),
    "language": Fault("Inactive", "language markdown is switched off", file="{}.md"),
    "gone": Fault("Warning", "no service answers at", Prompter.stop),  # the last: this one does not come back
}


class EditorApart:
    """An `Editor` in a thread of its own: Playwright and pynvim each want to run the event loop of theirs."""

    def __init__(self, folder: Path, init: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.folder = folder
        self._editor = self._thread.submit(Editor, folder, init).result()

    def __call__(self, method: str, *arguments: Any) -> Any:
        return self._thread.submit(getattr(self._editor, method), *arguments).result()

    def close(self) -> None:
        self("close")
        self._thread.shutdown()


@dataclass
class Pair:
    """The two editors, each with a language server of its own."""

    window: Window
    editor: EditorApart

    def type_into(self, file: str) -> None:
        """Opens a new file in both, and types until the second line says `ret`."""
        (self.editor.folder / file).parent.mkdir(exist_ok=True)
        self.window.open(file, "def add(a, b):\n", line=1)
        self.editor("open", file, "def add(a, b):\n\n", 1)
        self.window.type("    ret")
        self.editor("keys", "    ret")

    def goes_on(self, name: str, service: Prompter) -> None:
        """Both show completions again, and say that all is well."""
        service.follow(ADD)
        self.type_into(f"{name}_over.py")
        self.window.wait_for_ghost("urn a + b")
        self.editor("wait_for_ghost", "urn a + b")
        wait_for("both to be well again", lambda: self.told() == [("Normal", "")] * 2)

    def told(self) -> list[tuple[str, str]]:
        """Kind and words, as VS Code and as Neovim show them."""
        status = self.editor("lua", "return require('midfill.status').get()")
        kinds = {icon: kind for kind, icon in ICONS.items()}
        shown = self.window.status().removeprefix("Midfill: ").removesuffix("ready")
        return [(kinds.get(self.window.status_icon(), "busy"), shown), (status["kind"], status["message"])]


@pytest.fixture(scope="module")
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        running.required_key = KEY
        yield running


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("key") / "token"
    file.touch(mode=0o600)
    file.write_text(KEY)
    return str(file)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pair(
    browser: Browser, service: Prompter, token_file: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    settings = {"endpoint": service.url, "tokenFile": token_file, "disabledLanguages": ["markdown"]}
    editor = EditorApart(tmp_path_factory.mktemp("neovim"), setup(**settings))
    with code_server(tmp_path_factory.mktemp("vscode"), **settings) as server:
        window = server.window(browser, "start.txt")
        window.command("Notifications: Clear All Notifications")
        yield Pair(window, editor)
    editor.close()


@pytest.mark.parametrize(("file", "says"), [("opened/.env", "never sent"), ("opened.md", "markdown is switched off")])
def test_a_file_without_completions_is_told_on_opening(pair: Pair, service: Prompter, file: str, says: str) -> None:
    """Before anything is typed, and no longer than it is looked at."""
    (pair.editor.folder / file).parent.mkdir(exist_ok=True)
    for name, kind, words in ((file, "Inactive", says), ("opened.py", "Normal", "")):
        pair.window.open(name, "", line=0)
        pair.editor("open", name, "", 0)
        wait_for(f"{words!r} in both", lambda kind=kind: {told for told, _ in pair.told()} == {kind})
        assert all(words in message for _, message in pair.told())
        assert pair.told()[0] == pair.told()[1]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_alike(pair: Pair, service: Prompter, name: str) -> None:
    fault = FAULTS[name]
    service.follow(ADD)
    fault.begin(service)
    pair.type_into(fault.file.format(name))
    try:
        wait_for(
            f"{fault.kind} {fault.says!r} in VS Code and in Neovim",
            lambda: pair.told() if all(re.search(fault.says, words) for _, words in pair.told()) else None,
        )
        told = pair.told()
        assert told[0] == told[1]
        assert told[0][0] == fault.kind
        assert pair.window.notifications() == []
        assert pair.editor("messages") == ""
    except AssertionError as error:
        raise AssertionError(f"{error}; told: {pair.told()}") from None
    finally:
        service.fault, service.required_key = None, KEY
    if name == "gone":
        with Prompter(service.port) as back:
            back.required_key = KEY
            # Without a keystroke.
            wait_for("both to be well again", lambda: pair.told() == [("Normal", "")] * 2)
            pair.goes_on(name, back)
    else:
        pair.goes_on(name, service)


def test_the_model_that_is_not_installed_is_told_alike(browser: Browser, tmp_path: Path) -> None:
    """The language server of the .vsix, run by a Python that has nothing else."""
    built_vsix()
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    editor = EditorApart(tmp_path / "neovim", setup(cmd=[str(python), "-P", str(SERVER)]))
    try:
        with code_server(tmp_path / "vscode", python=str(python)) as server:
            window = server.window(browser, "start.py", status="not installed")
            editor("open", "start.py", "\n", 0)
            told = Pair(window, editor).told()
            assert told[0] == told[1]
            assert told[0][0] == "Error" and "pip install" in told[0][1]
            window.page.wait_for_timeout(1000)
            assert not [text for text in window.notifications() if "rror" in text]
    finally:
        editor.close()
