"""Where a completion ends: the service's rules for line and block mode, and the benchmarks' one for functions.

A rule maps the text so far to the index at which it ends, or -1. The service decides the same in
`inference_service.engine.stopping`, which training may not import; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable

StopRule = Callable[[str], int]

_CLOSING = (")", "]", "}")


def never(_text: str) -> int:
    """Only the model's own end-of-text ends it."""
    return -1


def line_end(text: str) -> int:
    return text.find("\n")


def block_end(prefix: str) -> StopRule:
    """The line break before the first line that falls out of the block in which `prefix` ends."""
    line = prefix[prefix.rfind("\n") + 1 :]
    blank, base = not line.strip(), _indent(line)

    def outside(line: str, before: str) -> bool:
        if base == 0 and blank:
            return _indent(line) == 0 and bool(before.strip()) and bool(re.search(r"\n[ \t]*\n\Z", before))
        if blank:
            return _indent(line) < base
        return _indent(line) <= base and not line.lstrip().startswith(_CLOSING)

    def rule(text: str) -> int:
        at = text.find("\n")
        while at >= 0:
            stop = text.find("\n", at + 1)
            line = text[at + 1 : stop if stop >= 0 else len(text)]
            if line.strip() and outside(line, text[: at + 1]):
                return len(text[:at].rstrip())
            at = stop
        return -1

    return rule


def function_end(text: str) -> int:
    """Before the next top-level statement, by the stop strings of Chen et al. 2021, section 3.2."""
    ends = [text.find(stop) for stop in ("\nclass", "\ndef", "\n#", "\nif", "\nprint")]
    return min((end for end in ends if end >= 0), default=-1)


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
