"""The real Neovim while its service goes and comes, and while its settings change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.prompter import Prompter
from tests.e2e.waiting import wait_for

ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        yield running


@pytest.fixture
def editor(service: Prompter, tmp_path: Path) -> Iterator[Editor]:
    running = Editor(tmp_path / "neovim", setup(endpoint=service.url))
    yield running
    running.close()


def test_a_service_that_dies_while_somebody_types_and_comes_back(editor: Editor, service: Prompter) -> None:
    service.follow(ADD)
    path = editor.open("killed.py", "def add(a, b):\n\n", line=1)
    editor.keys("    r")
    editor.wait_for_ghost("eturn a + b")
    service.stop()
    editor.keys("x")
    wait_for("the statusline to tell", lambda: f"no service answers at {service.url}" in editor.statusline())
    editor.keys("<BS>e")
    with Prompter(service.port) as back:
        back.follow(ADD)
        editor.keys("t")
        wait_for("the statusline to be well", lambda: editor.statusline() == "midfill")
        # Without another key: the editor asks again by itself.
        editor.wait_for_ghost("urn a + b")
        editor.save()
    assert path.read_text() == "def add(a, b):\n    ret\n"
    assert editor.messages().count("killed.py") == len(editor.messages().splitlines()), "nothing but the writing"


def test_a_service_that_comes_after_the_editor(tmp_path: Path) -> None:
    """Without network, or with the service not up yet: the editor starts as ever, and nothing needs to be restarted."""
    with Prompter() as gone:
        port, url = gone.port, gone.url
    editor = Editor(tmp_path / "neovim", setup(endpoint=url))
    try:
        editor.open("offline.py", "def add(a, b):\n\n", line=1)
        editor.keys("    ret")
        wait_for("the statusline to tell", lambda: "no service answers" in editor.statusline())
        assert editor.messages() == ""
        with Prompter(port) as service:
            service.follow(ADD)
            editor.keys("u")
            editor.wait_for_ghost("rn a + b")
    finally:
        editor.close()


def test_settings_change_while_it_runs(editor: Editor, service: Prompter) -> None:
    with Prompter() as other:
        other.follow(ADD)
        editor.open("settings.py", "def add(a, b):\n\n", line=1)
        editor.keys("    ret")
        wait_for("a request", lambda: service.requests)
        assert editor.ghost() == ""
        editor.lua(setup(endpoint=other.url, maxTokens=17))
        wait_for("the settings to be read", lambda: "/info" in [call.path for call in other.calls])
        editor.keys("u")
        editor.wait_for_ghost("rn a + b")
        assert other.requests[-1]["max_tokens"] == 17


def test_what_was_typed_before_the_server_was_there_is_answered(editor: Editor, service: Prompter) -> None:
    service.follow(ADD)
    (editor.folder / "early.py").write_text("def add(a, b):\n\n")
    editor.nvim.input(f":edit {editor.folder}/early.py<CR>GA    ret")
    editor.wait_for_ghost("urn a + b")
