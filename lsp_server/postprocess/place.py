"""Where a completion is to be shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The text around the cursor (line ends are `\\n`), the mode, the longest block in lines, and the language."""

    prefix: str
    suffix: str
    mode: str
    max_lines: int
    language: str = ""

    @property
    def line_prefix(self) -> str:
        """The cursor's line, left of the cursor."""
        return self.prefix.rpartition("\n")[2]

    @property
    def rest_of_line(self) -> str:
        """The cursor's line, right of the cursor."""
        return self.suffix.partition("\n")[0]

    @property
    def lines_below(self) -> list[str]:
        """The lines below the cursor's."""
        return self.suffix.split("\n")[1:]


def indent_of(line: str) -> int:
    """The width of a line's indentation in columns, a tab being four."""
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
