"""Accepting must not leave white space at a line's end, nor empty lines."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def trim_end(text: str, place: Place) -> str:
    """Without white space at the end."""
    return text.rstrip()
