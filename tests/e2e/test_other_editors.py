"""The set-ups of docs/other-editors.md in the real editors, with the snippets as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import Editor, environment, server_on_path, setup
from tests.e2e.prompter import Prompter
from tests.e2e.terminal import Terminal
from tests.e2e.waiting import wait_for
from tests.programs import tool

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

INSTALLER = "tools/install_other_editors.sh .tools/editors"
PAGE = Path(__file__).parents[2] / "docs" / "other-editors.md"
ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        running.follow(ADD)
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Runs an editor in a terminal, with a home of its own and `midfill-lsp` on the PATH."""
    path = server_on_path(tmp_path)
    started: list[Terminal] = []

    def start_editor(*command: str, folder: Path = tmp_path) -> Terminal:
        variables = {**environment(tmp_path), "HOME": str(tmp_path), "PATH": path, "MIDFILL_TOKEN": ""}
        started.append(Terminal(command, variables, folder))
        return started[-1]

    yield start_editor
    for terminal in started:
        terminal.close()


def snippet(language: str, service: Prompter) -> str:
    """The page's only snippet in this language, with the address of our service in it."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "https://midfill.example.org" in text
    return text.replace("https://midfill.example.org", service.url)


def project(folder: Path) -> Path:
    """A file to complete, in a folder that editors take for a project."""
    (folder / "project" / ".git").mkdir(parents=True)
    file = folder / "project" / "sums.py"
    file.write_text("def add(a, b):\n\n")
    return file


def test_emacs_shows_ghost_text(start: Callable[..., Terminal], service: Prompter, tmp_path: Path) -> None:
    file = project(tmp_path)
    quiet = (
        "(setq inhibit-startup-screen t make-backup-files nil create-lockfiles nil auto-save-default nil"
        " lsp-auto-guess-root t lsp-enable-suggest-server-download nil lsp-warn-no-matched-clients nil"
        " lsp-enable-file-watchers nil lsp-keep-workspace-alive nil)\n"
    )
    (tmp_path / "init.el").write_text(quiet + snippet("elisp", service))
    emacs = tool("editors/bin/emacs", INSTALLER)
    terminal = start(emacs, "-nw", "-Q", "--load", str(tmp_path / "init.el"), str(file))
    terminal.wait_for(" Midfill")
    terminal.keys("\x1b<\x0e    ret")  # to the beginning, a line down
    terminal.wait_for(r"    return a \+ b")
    assert service.requests[-1]["prompt"].endswith("    ret")
    terminal.picture("emacs-ghost")
    terminal.keys("\t")
    wait_for("the acceptance to be reported", lambda: service.reported("accepted"))
    terminal.keys("\x18\x13")
    wait_for("the file on the disk", lambda: file.read_text() == ADD)


def test_helix_has_it_in_the_popup(start: Callable[..., Terminal], service: Prompter, tmp_path: Path) -> None:
    file = project(tmp_path)
    settings = tmp_path / "config" / "helix" / "languages.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(snippet("toml", service))
    terminal = start(tool("editors/bin/hx", INSTALLER), f"{file}:2", folder=file.parent)
    terminal.wait_for("def add")
    terminal.keys("i    ret")

    def popup() -> bool:
        terminal.keys("\x7ft", delay_s=0.7)  # Helix asks as somebody types, and there may be no server yet
        return "return a + b" in terminal.text()

    wait_for("the popup", popup, timeout=60)
    terminal.keys("\t")
    terminal.wait_for(r"    return a \+ b")
    terminal.picture("helix-popup")
    terminal.keys("\x1b")
    terminal.keys(":w\r")
    # Helix moves the old file away before it writes the new one.
    wait_for("the file on the disk", lambda: file.exists() and file.read_text() == ADD)


def test_neovim_0_10_has_it_in_the_popup(service: Prompter, tmp_path: Path) -> None:
    editor = Editor(tmp_path / "neovim", setup(endpoint=service.url), program=tool("editors/bin/nvim-0.10", INSTALLER))
    try:
        path = editor.open("sums.py", "def add(a, b):\n\n", line=1)
        assert editor.statusline() == "midfill"
        editor.keys("    ret<C-x><C-o>")
        editor.wait_for_line("    return a + b")
        editor.save()
        assert path.read_text() == ADD
        editor.nvim.command("checkhealth midfill")
        report = "\n".join(editor.lines())
        assert "completions come in the popup menu" in report and "is reachable and ready" in report
        assert "ERROR" not in report
        editor.nvim.command("bwipeout!")
        editor.keys(":Midfill toggle<CR>")
        wait_for("the statusline to say off", lambda: editor.statusline().startswith("midfill off"))
    finally:
        editor.close()
