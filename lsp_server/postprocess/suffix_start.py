"""Completions that arrive at what is written right of the cursor."""

from __future__ import annotations

from lsp_server.postprocess.place import Place

_CHARS = 20
_SHORTEST = 10


def cut_at_suffix(text: str, place: Place) -> str:
    """Cut where the first 20 characters of the suffix come again."""
    head = place.suffix[:_CHARS]
    if len(head.strip()) < _SHORTEST:
        return text
    at = text.find(head)
    return text[:at] if at >= 0 else text
