"""Models that were trained to chat put code into fences."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

_OPENING = re.compile(r"\A\s*```[\w+-]*\n")
_CLOSING = re.compile(r"^[ \t]*```", re.MULTILINE)


def cut_fence(text: str, place: Place) -> str:
    """The code inside; in Markdown a fence is what was asked for."""
    if place.language in ("markdown", "mdx", "quarto", "rmd"):
        return text
    text = _OPENING.sub("", text)
    match = _CLOSING.search(text)
    return text[: match.start()] if match else text
