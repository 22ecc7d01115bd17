"""Takes away the end of a text that stands behind the cursor already."""

from __future__ import annotations


def without_suffix(text: str, suffix: str) -> str:
    """`text` without its last lines that are the first ones of `suffix`; a line that is only space is none."""
    lines = text.split("\n")
    ahead = suffix.lstrip("\n").split("\n")
    for count in range(min(len(lines), len(ahead)), 0, -1):
        tail = [line.strip() for line in lines[-count:]]
        if tail == [line.strip() for line in ahead[:count]] and any(map(_telling, tail)):
            return "\n".join(lines[:-count])
    return text


def _telling(line: str) -> bool:
    """A line of brackets alone is equal by chance, and needed."""
    return any(character.isalnum() for character in line)
