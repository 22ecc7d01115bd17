"""Drives a real, headless Neovim with Midfill's plugin and language server in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvim

from tests.e2e.waiting import wait_for
from tests.programs import TOOLS, missing

REPO = Path(__file__).parents[2]
PLUGIN = REPO / "editors" / "neovim"


def find_neovim() -> str:
    """Neovim 0.12 from `.tools/nvim` or PATH. Without one the tests are skipped, in CI they fail."""
    for candidate in (shutil.which(TOOLS / "nvim/bin/nvim"), shutil.which("nvim")):
        if candidate:
            version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True)
            match = re.match(r"NVIM v(\d+)\.(\d+)", version.stdout)
            if match and tuple(map(int, match.groups())) >= (0, 12):
                return candidate
    missing("no Neovim 0.12 or newer was found: run `tools/install_nvim.sh .tools/nvim`")


class Editor:
    """One Neovim. What a method returns is what the user sees."""

    def __init__(self, folder: Path, init: str, program: str | None = None) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        init_file = folder / "init.lua"
        # Automatic indentation would add to what the tests type.
        init_file.write_text(
            f'vim.opt.runtimepath:prepend("{PLUGIN}")\nvim.cmd.filetype("indent", "off")\n'
            f"vim.o.expandtab, vim.o.shiftwidth, vim.o.autoindent = true, 4, false\n{init}\n"
        )
        variables = [f"{name}={value}" for name, value in environment(folder).items()]
        command = ["env", *variables, program or find_neovim(), "--embed", "--headless"]
        self.nvim = pynvim.attach("child", argv=[*command, "-u", str(init_file), "-i", "NONE", "-n"])

    def close(self) -> None:
        with suppress(EOFError, OSError):  # the connection ends with the process
            self.nvim.command("qall!")
        self.nvim.close()

    def lua(self, code: str, *args: Any) -> Any:
        return self.nvim.exec_lua(code, *args)

    def open(self, name: str, text: str, line: int, column: int = 0) -> Path:
        """Opens a new file, waits for the language server, and inserts from a 0-based line and column on."""
        path = self.folder / name
        path.write_text(text)
        self.nvim.input("<Esc>")
        self.nvim.command(f"edit {path}")
        # Empty before the server is attached, busy until it has read its settings.
        wait_for("the language server", lambda: self.statusline() not in ("", "midfill …"))
        self.nvim.current.window.cursor = (line + 1, column)
        self.nvim.input("A" if column >= len(self.nvim.current.line) else "i")
        return path

    def keys(self, keys: str) -> None:
        self.nvim.input(keys)
        self.lua("return 1")  # a round trip: the keys have been processed

    def ghost(self) -> str:
        """The ghost text, with its lines joined by newlines."""
        namespace = self.nvim.api.create_namespace("nvim.lsp.inline_completion")
        marks = self.nvim.api.buf_get_extmarks(0, namespace, 0, -1, {"details": True})
        lines = []
        for _, _, _, details in marks:
            for chunks in [details.get("virt_text", []), *details.get("virt_lines", [])]:
                lines.append("".join(text for text, *_ in chunks))
        return "\n".join(lines)

    def wait_for_ghost(self, expected: str) -> None:
        wait_for(f"the ghost text {expected!r}", lambda: self.ghost() == expected)

    def ghost_within(self, seconds: float) -> set[str]:
        """Everything that was shown as ghost text in the next seconds."""
        end = time.monotonic() + seconds
        seen = set()
        while time.monotonic() < end:
            seen.add(self.ghost())
            time.sleep(0.01)
        return seen

    def lines(self) -> list[str]:
        return list(self.nvim.current.buffer)

    def wait_for_line(self, expected: str) -> None:
        wait_for(f"the line {expected!r}", lambda: self.nvim.current.line == expected)

    def save(self) -> None:
        self.keys("<Esc>:write<CR>")

    def messages(self) -> str:
        return str(self.nvim.command_output("messages"))

    def statusline(self) -> str:
        return str(self.lua("return require('midfill').statusline()"))


def environment(folder: Path) -> dict[str, str]:
    """What keeps an editor to files of its own under `folder`, and gives it our language server."""
    return {
        **{f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")},
        "PYTHONPATH": str(REPO),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def server_on_path(folder: Path) -> str:
    """A PATH with our language server on it as `midfill-lsp`, where somebody who installed it has it."""
    programs = folder / "bin"
    programs.mkdir()
    server = programs / "midfill-lsp"
    server.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lsp_server "$@"\n')
    server.chmod(0o755)
    return os.pathsep.join([str(programs), os.environ["PATH"]])


def setup(**options: Any) -> str:
    """Lua that sets the plugin up with our own language server."""
    options = {"cmd": [sys.executable, "-m", "lsp_server"], **options}
    return f"require('midfill').setup(vim.json.decode([==[{json.dumps(options)}]==]))"
