"""Functions that a model writes again under nearly the same name."""

from __future__ import annotations

import re
from itertools import pairwise

from lsp_server.postprocess.distance import within
from lsp_server.postprocess.place import Place

_SHORTEST = 30


def cut_similar_blocks(text: str, place: Place) -> str:
    """Cut before a block that differs from the one above it by 10 % at most; blank lines part blocks."""
    blocks = [match for match in re.finditer(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+", text)]
    for one, other in pairwise(blocks):
        block = other[0].strip()
        if len(block) >= _SHORTEST and within(one[0].strip(), block, len(block) // 10):
            return text[: other.start()]
    return text
