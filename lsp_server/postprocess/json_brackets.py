"""In JSON a bracket too many makes the whole file useless."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

_STRING_OR_BRACKET = re.compile(r'"(?:\\.|[^"\\\n])*"?|[\[\]{}]')
_OPENERS = {"]": "[", "}": "{"}


def cut_at_unbalanced_bracket(text: str, place: Place) -> str:
    """Cut before the first bracket that closes nothing; other languages have parsers of their own."""
    if place.language not in ("json", "jsonc"):
        return text
    stack: list[str] = []
    for match in _STRING_OR_BRACKET.finditer(place.prefix + text):
        found = match[0]
        if found in ("[", "{"):
            stack.append(found)
        elif found in _OPENERS:
            closes = bool(stack) and stack[-1] == _OPENERS[found]
            if not closes and match.start() >= len(place.prefix):
                return text[: match.start() - len(place.prefix)]
            if closes:
                stack.pop()
    return text
