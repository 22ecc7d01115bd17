"""Where a completion ends, decided on its text while it grows. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from inference_service.engine.request import Mode

_CLOSING = (")", "]", "}")


class StopDetector:
    """Takes generated text piece by piece and says how much of it may be sent, and whether that was the end.

    Text that could still turn out to be cut is held back: the beginning of a stop string, in block mode the line
    that is being written and the blank lines before it, and with `whole_lines` (a deadline may cut it) every line but
    the first until it is complete.
    """

    def __init__(self, prefix: str, mode: Mode, stop: Sequence[str], *, whole_lines: bool = False) -> None:
        self._mode, self._whole_lines = mode, whole_lines
        self._stop = [s for s in stop if s]
        self._text = ""  # everything generated
        self._sent = 0
        self.ended = False
        line = prefix[prefix.rfind("\n") + 1 :]
        self._first_line_blank = not line.strip()
        self._base_indent = _indent(line)

    def push(self, piece: str) -> tuple[str, bool]:
        """(text to send now, ended)."""
        self._text += piece
        end = self._end()
        if end is not None:
            self.ended = True
            return self._send(max(end, self._sent)), True
        return self._send(len(self._text) - self._held_back()), False

    def finish(self, *, whole_lines: bool = False) -> str:
        """What was held back when generation ended before a stop; with `whole_lines` without an unfinished last line
        unless it is the only one."""
        if self.ended:
            return ""
        end = len(self._text)
        if whole_lines and "\n" in self._text[:end].strip("\n"):
            end = self._text.rstrip("\n").rfind("\n") if not self._text.endswith("\n") else len(self._text)
        return self._send(max(end, self._sent))

    def _send(self, end: int) -> str:
        text = self._text[self._sent : end]
        self._sent = end
        return text

    def _end(self) -> int | None:
        ends = [self._text.find(s, max(0, self._sent - len(s))) for s in self._stop]
        if self._mode == "line":
            ends.append(self._text.find("\n"))
        elif self._mode == "block":
            ends.append(self._block_end())
        return min((end for end in ends if end >= 0), default=None)

    def _block_end(self) -> int:
        """Index of the line break before the first line that falls out of the block, or -1."""
        at = self._text.find("\n")
        while at >= 0:
            stop = self._text.find("\n", at + 1)
            line = self._text[at + 1 : stop if stop >= 0 else len(self._text)]
            if line.strip() and self._outside(line, self._text[: at + 1]):
                return len(self._text[:at].rstrip())
            at = stop
        return -1

    def _outside(self, line: str, before: str) -> bool:
        if self._base_indent == 0 and self._first_line_blank:
            # nothing falls below column 0: a top-level statement after an empty line begins the next block
            return _indent(line) == 0 and bool(before.strip()) and bool(re.search(r"\n[ \t]*\n\Z", before))
        if self._first_line_blank:
            return _indent(line) < self._base_indent
        return _indent(line) <= self._base_indent and not line.lstrip().startswith(_CLOSING)

    def _held_back(self) -> int:
        held = 0
        for s in self._stop:
            for n in range(min(len(s) - 1, len(self._text)), 0, -1):
                if self._text.endswith(s[:n]):
                    held = max(held, n)
                    break
        if self._mode == "block":
            whole_lines = self._text[: max(self._text.rfind("\n"), 0)].rstrip()
            held = max(held, len(self._text) - len(whole_lines))
        if self._whole_lines and "\n" in self._text.lstrip("\n"):
            held = max(held, len(self._text) - self._text.rfind("\n") - 1)
        return min(held, len(self._text) - self._sent)


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
