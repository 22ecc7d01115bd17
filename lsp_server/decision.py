"""Line or block, and how the text goes on after a line that is complete."""

from __future__ import annotations

import re

_OPENERS = (":", "{", "(", "[")
_LEAVES_BLOCK = re.compile(r"\s*(?:return|raise|pass|break|continue|throw|goto)\b")
_INDENTED = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_LOOKED_AT = 4096
_COMMENT_MARKS = {
    "lua": "--", "sql": "--", "haskell": "--",
    **dict.fromkeys(("python", "ruby", "r", "julia", "perl", "shellscript", "yaml", "toml", "makefile", "elixir"), "#"),
}  # fmt: skip


def rest_of_line(suffix: str) -> str:
    """The text right of the cursor, up to the end of its line."""
    return suffix.partition("\n")[0]


def mode_at(prefix: str, suffix: str, wanted: str, language: str = "") -> str:
    """Whether to ask for a "line" or a "block" at this place; `wanted` is the setting.

    A block only where one begins: at the start of an empty line without indentation, or below a line that opens one.
    """
    line = prefix[prefix.rfind("\n") + 1 :]
    if rest_of_line(suffix).strip() or is_comment(line, language):
        return "line"
    if wanted != "auto":
        return wanted
    if line.strip():
        return "line"
    if not line:
        return "block"
    return "block" if prefix[-4096:].rstrip().endswith(_OPENERS) else "line"


def is_comment(line: str, language: str) -> bool:
    """Whether a line comment begins with the line."""
    return line.lstrip().startswith(comment_mark(language))


def comment_mark(language: str) -> str:
    """What begins a line comment; `//` for languages we do not know."""
    return _COMMENT_MARKS.get(language, "//")


def missing_indentation(prefix: str) -> str:
    """What is still to be typed before the text of a line that is empty so far, if it is to be indented like the one
    above it, or as that one opens a block. Empty where the line above does not tell, or the editor has indented."""
    head, end, line = prefix.rpartition("\n")
    following = next_line(head) if end and not line.strip() else None
    if following is None or len(line) > len(_indentation(head[head.rfind("\n") + 1 :])):
        return ""
    return following[1 + len(line) :] if following[1:].startswith(line) else ""


def next_line(prefix: str) -> str | None:
    """The line end and the indentation that follow the complete line at the end of `prefix`.

    None where the next line is likely to leave the block, so that its indentation is not known.
    """
    line = prefix[prefix.rfind("\n") + 1 :]
    if not line.strip() or _LEAVES_BLOCK.match(line):
        return None
    return "\n" + _indentation(line) + (_unit(prefix) if line.rstrip().endswith(_OPENERS) else "")


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _unit(prefix: str) -> str:
    """One step of indentation, as the lines above have it."""
    # A single blank is how comments of several lines are aligned.
    seen = [match for match in _INDENTED.findall(prefix[-_LOOKED_AT:]) if match != " "]
    if any(match.startswith("\t") for match in seen):
        return "\t"
    return min(seen, key=len, default="    ")
