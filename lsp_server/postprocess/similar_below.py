"""Completions that are nearly what already stands below."""

from __future__ import annotations

from lsp_server.postprocess.distance import within
from lsp_server.postprocess.place import Place

_LINES = 3
_SHORTEST = 10


def drop_similar_below(text: str, place: Place) -> str:
    """Nothing, if its first lines, three at most, are those below the cursor but for 5 % of the characters."""
    first, *others = text.split("\n")
    written = [line.strip() for line in (place.line_prefix + first, *others) if line.strip()][:_LINES]
    below = [line.strip() for line in place.lines_below if line.strip()][: len(written)]
    if len(below) < len(written) or len("".join(written)) < _SHORTEST:
        return text
    one, other = "\n".join(written), "\n".join(below)
    return "" if within(one, other, max(1, len(one) // 20)) else text
