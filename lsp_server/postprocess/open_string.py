"""Docstrings that a model does not bring to an end."""

from __future__ import annotations

from lsp_server.postprocess.place import Place
from lsp_server.scope import open_triple_quote


def cut_open_string(text: str, place: Place) -> str:
    """Cut before a string of several lines that `text` begins and does not end: taken over, it would swallow the code
    below."""
    begins = open_triple_quote(place.prefix + text, place.language)
    if begins is None or begins < len(place.prefix):
        return text
    begins -= len(place.prefix)
    return text[:begins] if "\n" in text[begins:] else text
