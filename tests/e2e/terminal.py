"""A program in a terminal of its own: keys in, and the screen that somebody would see out."""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyte

from tests.e2e.vscode_editor import chromium
from tests.e2e.waiting import wait_for

# What the emulator does not know and would print or take for colours: strings to the device, keyboard protocols.
_UNKNOWN = re.compile(rb"\x1bP.*?\x1b\\|\x1b\[[>=<?][0-9;]*[mu]|\x1b\[\?[0-9;]*(?:\$p|n)|\x1b\[[0-9;]* q", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(P[^\x1b]*\x1b?|\[[>=<?0-9;]*[ $]?)?$", re.DOTALL)
_COLOURS = {
    "black": "#1e1e1e", "red": "#d16969", "green": "#8ec07c", "brown": "#d7ba7d", "blue": "#7aa2d6",
    "magenta": "#c586c0", "cyan": "#56b6c2", "white": "#d4d4d4", "brightblack": "#808080",
}  # fmt: skip
_FOREGROUND, _BACKGROUND = "#d4d4d4", "#14161b"


class Terminal:
    """Runs `command` in `folder`, with `environment` beside ours."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        columns: int = 100,
        lines: int = 16,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.write_process_input = lambda data: os.write(self._master, data.encode())
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Emacs opens /dev/tty
        )
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """End the program and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def keys(self, text: str, delay_s: float = 0.03) -> None:
        """Type, one key after the other; an escape sequence counts as one."""
        for key in re.findall(r"\x1b\[?[A-Za-z0-9~>]?|.", text, re.DOTALL):
            os.write(self._master, key.encode())
            time.sleep(delay_s)

    def text(self) -> str:
        """The screen, without the blanks at the ends of its lines."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display)

    def wait_for(self, pattern: str, timeout: float = 120.0) -> None:
        """Until the screen has something that matches `pattern`."""
        try:
            wait_for(f"{pattern!r} on the screen", lambda: re.search(pattern, self.text()), timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen:\n{self.text()}") from None

    def picture(self, name: str) -> None:
        """Keeps a picture where `MIDFILL_SCREENSHOTS` says, if it does."""
        folder = os.environ.get("MIDFILL_SCREENSHOTS")
        if not folder:
            return
        time.sleep(0.5)
        with self._lock:
            page = self._html()
        with chromium() as browser:
            tab = browser.new_page(device_scale_factor=2)
            tab.set_content(page)
            tab.locator("pre").screenshot(path=Path(folder) / f"{name}.png")

    def _read(self) -> None:
        stream = pyte.ByteStream(self._screen)
        pending = b""
        with suppress(OSError):  # the program has ended
            while data := os.read(self._master, 65536):
                pending = _UNKNOWN.sub(b"", pending + data)
                unfinished = _UNFINISHED.search(pending)
                end = unfinished.start() if unfinished else len(pending)
                with self._lock:
                    stream.feed(pending[:end])
                pending = pending[end:]

    def _html(self) -> str:
        lines = []
        for y in range(self._screen.lines):
            row = self._screen.buffer[y]
            cells = [self._cell(row[x], (y, x)) for x in range(self._screen.columns)]
            lines.append("".join(cells))
        style = "font: 14px 'DejaVu Sans Mono', monospace; padding: 12px; display: inline-block; margin: 0"
        return f'<pre style="{style}; color: {_FOREGROUND}; background: {_BACKGROUND}">{chr(10).join(lines)}</pre>'

    def _cell(self, cell: pyte.screens.Char, place: tuple[int, int]) -> str:
        front, back = _colour(cell.fg, _FOREGROUND), _colour(cell.bg, _BACKGROUND)
        if cell.reverse != (place == (self._screen.cursor.y, self._screen.cursor.x)):
            front, back = back, front
        weight, slant = "bold" if cell.bold else "normal", "italic" if cell.italics else "normal"
        style = f"color:{front};background:{back};font-weight:{weight};font-style:{slant}"
        return f'<span style="{style}">{html.escape(cell.data.replace("✅", "✓"))}</span>'


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return _COLOURS.get(name, f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else default)
