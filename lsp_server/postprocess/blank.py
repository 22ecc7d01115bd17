"""White space is no completion."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def drop_blank(text: str, place: Place) -> str:
    """Nothing, if there is nothing to read in it."""
    return text if text.strip() else ""
