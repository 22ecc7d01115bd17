"""The blank between two words belongs to one of them."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def trim_double_space(text: str, place: Place) -> str:
    """Without a blank that would be the second one, or that would make an odd indentation."""
    line = place.line_prefix
    blanks = len(text) - len(text.lstrip(" "))
    if line.strip():
        return text[blanks:] if line[-1].isspace() else text
    return text[1:] if blanks % 2 and len(line) % 2 == 0 and "\t" not in line else text
