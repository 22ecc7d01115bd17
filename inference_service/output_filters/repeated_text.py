"""Ends a text where it begins to go in circles."""

from __future__ import annotations

_TIMES = 3  # two equal lines in a row are common in code
_LONGEST = 4  # lines of a cycle


def without_repetition(text: str) -> str:
    """`text` with one pass only of the lines that it repeats three times or more in a row."""
    lines = text.split("\n")
    for start in range(len(lines)):
        for length in range(1, _LONGEST + 1):
            cycle = lines[start : start + length]
            repeated = lines[start : start + length * _TIMES] == cycle * _TIMES
            if repeated and any(line.strip() for line in cycle):
                return "\n".join(lines[: start + length])
    return text
