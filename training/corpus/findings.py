"""What a search for private text found, and how it is masked."""

from __future__ import annotations

import re
from typing import NamedTuple

_MASKABLE = re.compile(r"\\.|[A-Z]+|[a-z]+|[0-9]+", re.DOTALL)


class Finding(NamedTuple):
    """`text[start:end]` is of this `kind` (for the report) and becomes `replacement`."""

    start: int
    end: int
    kind: str
    replacement: str


def mask(text: str) -> str:
    """`text` with each letter as x or X and each digit as 0; the rest, and backslash escapes, stay."""

    def masked(match: re.Match[str]) -> str:
        run = match.group()
        if run[0] == "\\":
            return run
        return ("X" if run.isupper() else "x" if run.islower() else "0") * len(run)

    return _MASKABLE.sub(masked, text)
