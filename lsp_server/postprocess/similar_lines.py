"""Lists that a model makes up one by one."""

from __future__ import annotations

from lsp_server.postprocess.distance import within
from lsp_server.postprocess.place import Place

_LINES = 5
_SHORTEST = 10


def cut_similar_lines(text: str, place: Place) -> str:
    """Cut after the first of five lines in a row that differ from the one before by 10 % at most."""
    lines = text.split("\n")
    run = 1
    for index in range(1, len(lines)):
        one, other = lines[index - 1].strip(), lines[index].strip()
        alike = len(other) >= _SHORTEST and within(one, other, len(other) // 10)
        run = run + 1 if alike else 1
        if run == _LINES:
            return "\n".join(lines[: index - _LINES + 2])
    return text
