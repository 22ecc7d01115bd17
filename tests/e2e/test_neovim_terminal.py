"""Neovim in a terminal, as people see it: the other tests read its screen through its API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import PLUGIN, environment, find_neovim, server_on_path
from tests.e2e.prompter import Prompter
from tests.e2e.terminal import Terminal

PAGE = Path(__file__).parents[2] / "docs" / "neovim.md"
SIGN = "def sign(x):\n    if x < 0:\n        return -1\n    return 1\n"


@pytest.fixture
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        yield running


@pytest.fixture
def terminal(service: Prompter, tmp_path: Path) -> Iterator[Terminal]:
    (statusline,) = re.findall(r"^vim\.o\.statusline.*$", PAGE.read_text(), re.MULTILINE)
    (tmp_path / "init.lua").write_text(
        f'vim.opt.runtimepath:prepend("{PLUGIN}")\n{statusline}\n'
        "vim.o.ruler, vim.o.showmode, vim.o.number = false, false, true\n"
        f"require('midfill').setup({{ endpoint = '{service.url}', keymaps = {{ accept = '<Tab>' }} }})\n"
    )
    (tmp_path / "sign.py").write_text("def sign(x):\n\n")
    command = [find_neovim(), "-u", str(tmp_path / "init.lua"), "-i", "NONE", "-n", "sign.py"]
    variables = {**environment(tmp_path), "PATH": server_on_path(tmp_path)}
    running = Terminal(command, variables, tmp_path, lines=24)
    yield running
    running.close()


def test_ghost_text_health_and_an_outage_as_they_are_seen(terminal: Terminal, service: Prompter) -> None:
    service.follow(SIGN, lines=3)
    terminal.wait_for(r"sign\.py .* midfill +1:")
    terminal.keys("jA    ")
    terminal.wait_for(r"2 +if x < 0:\n +return -1\n +return 1")
    assert re.search(r"2:\d+$", terminal.text(), re.MULTILINE), "the cursor is still on the line that is completed"
    terminal.picture("neovim-ghost")
    terminal.keys("\t\x1b")
    terminal.wait_for(r"3 +return -1\n +4 +return 1")

    terminal.keys(":checkhealth midfill\r")
    terminal.wait_for("OK the key is accepted")
    assert "ERROR" not in terminal.text()
    terminal.picture("neovim-health")

    terminal.keys(":bwipeout\r")
    service.stop()
    terminal.keys("otot")
    terminal.wait_for(f"no service answers at {service.url}")
    terminal.picture("neovim-down")
