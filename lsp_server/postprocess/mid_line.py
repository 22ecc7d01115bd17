"""In the middle of a line there is no room for a block."""

from __future__ import annotations

from lsp_server.overlap import replaced_length
from lsp_server.postprocess.place import Place


def keep_line_within_line(text: str, place: Place) -> str:
    """Only the first line, unless the completion writes all that stands right of the cursor itself."""
    rest = place.rest_of_line.rstrip()
    if not rest.strip() or replaced_length(text, rest) == len(rest):
        return text
    return text.partition("\n")[0]
