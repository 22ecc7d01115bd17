"""Comment marks without a comment."""

from __future__ import annotations

from lsp_server.decision import comment_mark
from lsp_server.postprocess.place import Place


def cut_empty_comments(text: str, place: Place) -> str:
    """Nothing, if there is only the mark; and no more than one empty comment line in a row."""
    mark = comment_mark(place.language)
    first, *others = text.split("\n")
    lines = [(place.line_prefix + first).strip(), *(line.strip() for line in others)]
    if all(line in ("", mark) for line in lines):
        return ""
    for index in range(1, len(lines)):
        if lines[index] == lines[index - 1] == mark:
            return "\n".join([first, *others][:index])
    return text
