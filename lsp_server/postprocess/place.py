"""Where a completion is to be shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The text around the cursor (line ends are `\\n`), the mode, and the longest block in lines."""

    prefix: str
    suffix: str
    mode: str
    max_lines: int

    @property
    def line_prefix(self) -> str:
        """The cursor's line, left of the cursor."""
        return self.prefix.rpartition("\n")[2]

    @property
    def lines_below(self) -> list[str]:
        """The lines below the cursor's."""
        return self.suffix.split("\n")[1:]
