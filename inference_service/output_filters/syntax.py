"""Whether the file would parse with the completion in it: a signal, for an unfinished file is no fault."""

from __future__ import annotations

import ast
import warnings

_MOST_CHARS = 20_000  # parsing holds up the others


def parses(before: str, text: str, after: str, language: str) -> bool | None:
    """True or false for Python; None for other languages and for long files."""
    source = before + text + after
    if language != "python" or len(source) > _MOST_CHARS:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # on doubtful escapes, quoting the source
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
