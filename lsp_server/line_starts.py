"""Where the lines of a text begin, as LSP counts them: `\\n`, `\\r\\n` and `\\r` end one, and nothing else."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from itertools import accumulate, pairwise

_EOL = re.compile(r"\r\n|\n|\r")


class LineStarts:
    """Kept up to date edit by edit, at a cost that does not depend on the length of the text.

    An edit moves the beginnings of all lines below it. They are not written anew: those after `_last` are `_shift`
    further on than they are written, until an edit elsewhere takes `_last` there.
    """

    def __init__(self, text: str) -> None:
        # an array: 50,000 integers as objects are 2 MB
        self._starts = array("i", accumulate(line_lengths(text)[:-1], initial=0))
        self._last = len(self._starts) - 1
        self._shift = 0

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, line: int) -> int:
        return self._starts[line] + (self._shift if line > self._last else 0)

    def line_of(self, offset: int) -> int:
        """The line that the character at `offset` belongs to; the last one for an offset past the text."""
        after = self._last + 1
        if after < len(self._starts) and offset >= self._starts[after] + self._shift:
            return bisect_right(self._starts, offset - self._shift, after) - 1
        return bisect_right(self._starts, offset, 0, after) - 1

    def replace(self, first: int, last: int, text: str, added: int) -> None:
        """Lines `first` to `last` read `text` now, with the end of line `last`; the whole is `added` characters
        longer than before."""
        lengths = line_lengths(text)
        if last < len(self._starts) - 1:
            # An empty line after the last line end is the line that follows, which has its entry.
            lengths.pop()
        self._settle(last)
        self._starts[first + 1 : last + 1] = array("i", accumulate(lengths[:-1], initial=self[first]))[1:]
        self._last = first + len(lengths) - 1
        self._shift += added

    def _settle(self, line: int) -> None:
        """Have what is not shifted end with `line`."""
        low, high = sorted((self._last, line))
        shift = self._shift if line > self._last else -self._shift
        if shift:
            moved = array("i", (start + shift for start in self._starts[low + 1 : high + 1]))
            self._starts[low + 1 : high + 1] = moved
        self._last = line


def line_lengths(text: str) -> array[int]:
    """The length of each line with its end; the last one has none and may be empty."""
    if text.count("\r") == text.count("\r\n"):
        lengths = array("i", (len(line) + 1 for line in text.split("\n")))
        lengths[-1] -= 1
        return lengths
    ends = [0, *(match.end() for match in _EOL.finditer(text)), len(text)]
    return array("i", (end - start for start, end in pairwise(ends)))
