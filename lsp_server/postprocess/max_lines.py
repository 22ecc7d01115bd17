"""Nobody reads a screenful of ghost text."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def limit_lines(text: str, place: Place) -> str:
    """At most `place.max_lines` lines."""
    return "\n".join(text.split("\n")[: place.max_lines])
