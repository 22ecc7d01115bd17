"""Completions that run on into what is already written below the cursor."""

from __future__ import annotations

from lsp_server.postprocess.place import Place


def cut_suffix_overlap(text: str, place: Place) -> str:
    """Cut where the rest of the completion repeats the next lines of the file, from the first non-blank one.

    Indentation counts: a closing bracket of an inner block is not the one that stands below.
    """
    below = [line.rstrip() for line in place.lines_below]
    while below and not below[0]:
        below.pop(0)
    if not below:
        return text
    lines = text.split("\n")
    whole = [place.line_prefix + lines[0], *lines[1:]]
    for index in range(len(lines)):
        rest = [line.rstrip() for line in whole[index:]]
        while rest and not rest[-1]:
            rest.pop()
        if _repeats(rest, below):
            return "\n".join(lines[:index])
    return text


def _repeats(lines: list[str], below: list[str]) -> bool:
    if not lines or len(lines) > len(below):
        return False
    if lines[:-1] != below[: len(lines) - 1]:
        return False
    last, counterpart = lines[-1], below[len(lines) - 1]
    # A completion that ran out of tokens ends within a line: then its beginning must do, after a full match.
    return last == counterpart or (len(lines) > 1 and counterpart.startswith(last))
