"""Small models fall into loops."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

# Three characters or more, six times in a row; five or more, four times; or twelve or more, three times.
_LOOP_IN_LINE = re.compile(r"(.{3,40}?)\1{5,}|(.{5,80}?)\2{3,}|(.{12,80}?)\3{2,}")
_NAME = re.compile(r"[^\W\d]\w*")
_LONGEST_CYCLE = 8
_TIMES = 3


def cut_repetition(text: str, place: Place) -> str:
    """Cut before the first repetition of a loop; nothing, if the completion only repeats the line above.

    A loop is a run of 1 to 8 lines that comes three times in a row, a piece of a line three to six times, or a line of
    several names twice; and so a run of several lines with three names or more.
    """
    lines = text.split("\n")
    if _echoes_line_above(lines[0], place):
        return ""
    for index, line in enumerate(lines):
        if _LOOP_IN_LINE.search(line):
            lines = lines[:index]
            break
    keys = [line.rstrip() for line in (place.line_prefix + "\n".join(lines)).split("\n")]
    for index in range(1, len(keys)):
        if keys[index] == keys[index - 1] and len(_NAME.findall(keys[index])) > 1:
            lines, keys = lines[:index], keys[:index]
            break
    for start in range(len(keys)):
        for cycle in range(1, _LONGEST_CYCLE + 1):
            run = keys[start : start + cycle]
            times = 2 if cycle > 1 and len(_NAME.findall("\n".join(run))) > 2 else _TIMES
            if any(run) and keys[start : start + cycle * times] == run * times:
                return "\n".join(lines[: start + cycle])
    return "\n".join(lines)


def is_looping(text: str) -> bool:
    """Whether the end of `text` is a loop, so that nothing of what would follow it were left."""
    *lines, last = text.split("\n")
    if _LOOP_IN_LINE.search(last):
        return True
    keys = [line.rstrip() for line in lines]
    for cycle in range(1, min(_LONGEST_CYCLE, len(keys) // _TIMES) + 1):
        run = keys[-cycle:]
        if any(run) and keys[-cycle * _TIMES :] == run * _TIMES:
            return True
    return False


def _echoes_line_above(first: str, place: Place) -> bool:
    completed = (place.line_prefix + first).strip()
    above = place.prefix.split("\n")[:-1]
    previous = next((line.strip() for line in reversed(above) if line.strip()), "")
    # Lines of brackets and single words (`pass`, `end`, `},`) do follow each other.
    return completed == previous and len(re.findall(r"\w+", completed)) > 1
