"""Closing brackets and quotes that both the editor and the model wrote."""

from __future__ import annotations

import re

_PAIRS = {")": "(", "]": "[", "}": "{"}
_QUOTES = "\"'`"


def replaced_length(text: str, rest: str) -> int:
    """How many characters right of the cursor the completion `text` writes itself; `rest` is the line's rest.

    Editors close brackets as they are opened: in `f(a║)` a model writes `, b)`. Only brackets that `text`
    closes without having opened them count, so that in `f(║)` the completion `g(x)` keeps the editor's `)`.
    """
    trimmed = rest.rstrip()
    if not trimmed:
        return 0
    if re.search(r"\w", trimmed):
        return _repeated(text.rstrip(), trimmed)
    closers = _unmatched_closers(text, trimmed)
    at = 0
    while at < len(trimmed):
        skipped = at + len(trimmed[at:]) - len(trimmed[at:].lstrip())
        if not closers or trimmed[skipped] != closers[0][0]:
            break
        at = skipped + 1
        _, end = closers.pop(0)
        if not closers and trimmed[at:] and text[end:].startswith(trimmed[at:]):
            return len(trimmed)  # and the line's punctuation too: `):`
    if at == 0 and trimmed[0] in ":{;," and text.rstrip().endswith(trimmed):
        return len(trimmed)
    return at


def _repeated(text: str, rest: str) -> int:
    """The length of the longest beginning of `rest` that `text` ends with; shorter than 3 is chance, unless it is all
    of it."""
    for length in range(len(rest), 2, -1):
        if text.endswith(rest[:length]):
            return length
    return len(rest) if text.endswith(rest) else 0


def _unmatched_closers(text: str, rest: str) -> list[tuple[str, int]]:
    """The closers in `text` whose openers are not in it, each with the index after it."""
    found = []
    stack: list[str] = []
    # An odd number of a quote that also stands right of the cursor: the first of them closes a string.
    closing_quotes = {q for q in _QUOTES if q in rest and text.count(q) % 2}
    quote = ""
    for index, char in enumerate(text):
        if char in closing_quotes:
            closing_quotes.discard(char)
            found.append((char, index + 1))
        elif char in _QUOTES:
            if quote == char:
                quote = ""
            elif not quote:
                quote = char
        elif quote:
            continue
        elif char in _PAIRS.values():
            stack.append(char)
        elif char in _PAIRS:
            if stack and stack[-1] == _PAIRS[char]:
                stack.pop()
            else:
                found.append((char, index + 1))
    return found
