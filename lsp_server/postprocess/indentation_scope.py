"""A completion ends with the block that it stands in."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place, indent_of

_CLOSING = re.compile(r"\s*(?:[)\]}]+[;,]?|end[;,]?|</[\w.-]+>)\s*")


def cut_at_end_of_block(text: str, place: Place) -> str:
    """Cut before the first line that is indented less than the cursor's; the one that closes the block stays."""
    base = indent_of(place.line_prefix + "x")
    lines = text.split("\n")
    if place.line_prefix.strip():
        base = indent_of(place.line_prefix)
    for index, line in enumerate(lines[1:], 1):
        if line.strip() and indent_of(line) < base:
            return "\n".join(lines[: index + 1 if _CLOSING.fullmatch(line) else index])
    return text
