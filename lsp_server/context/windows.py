"""Parts of other files that look like what is being written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINES = 20
_STRIDE = 10
_MOST_LINES = 4000
_WORD = re.compile(r"[A-Za-z_]\w{2,}")
_COMMON = frozenset(
    _WORD.findall(
        "and are but def elif else except false for from has import None not null return self True False this try var "
        "let const function class public private static void int str bool new with while"
    )
)


@dataclass(frozen=True)
class Window:
    """20 lines of a file, beginning at line `start`, and the words in them."""

    start: int
    text: str
    words: frozenset[str]


def words_of(text: str) -> frozenset[str]:
    """The words of three letters or more that are not on every page."""
    return frozenset(_WORD.findall(text)) - _COMMON


def windows_of(text: str) -> Iterator[Window]:
    """Overlapping windows over the first 4000 lines."""
    lines = text.split("\n")[:_MOST_LINES]
    for start in range(0, max(1, len(lines) - _STRIDE), _STRIDE):
        piece = "\n".join(lines[start : start + LINES]).strip("\n")
        if piece:
            yield Window(start, piece, words_of(piece))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index, 0 to 1."""
    return len(one & other) / len(one | other) if one or other else 0.0
