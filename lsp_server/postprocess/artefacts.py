"""What models write beside code: their thoughts, patch headers, remarks on where the file ends."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

_BEFORE = re.compile(r"\A\s*(?:<think>.*?</think>\s*|</?COMPLETION>\s*)", re.DOTALL)
_AFTER = re.compile(
    r"</COMPLETION>|^diff --git |^\s*(?:#|//|--)\s*(?:End of file|Path:|File:|FILE:)", re.MULTILINE | re.IGNORECASE
)


def cut_artefacts(text: str, place: Place) -> str:
    """The code between them."""
    if match := _BEFORE.match(text):
        text = text[match.end() :]
    match = _AFTER.search(text)
    return text[: match.start()] if match else text
