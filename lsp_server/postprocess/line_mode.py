"""A line was asked for."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def keep_first_line(text: str, place: Place) -> str:
    """In line mode, the text up to the first line end."""
    return text.partition("\n")[0] if place.mode == "line" else text
