"""From what a model wrote to what may be shown: pure filters, one a file, applied in order."""

from __future__ import annotations

from collections.abc import Callable

from lsp_server.postprocess.blank import drop_blank
from lsp_server.postprocess.line_mode import keep_first_line
from lsp_server.postprocess.max_lines import limit_lines
from lsp_server.postprocess.place import Place
from lsp_server.postprocess.repetition import cut_repetition
from lsp_server.postprocess.special_tokens import cut_at_special_token
from lsp_server.postprocess.suffix_overlap import cut_suffix_overlap
from lsp_server.postprocess.trailing_whitespace import trim_end

Filter = Callable[[str, Place], str]

FILTERS: tuple[tuple[str, Filter], ...] = (
    ("special_tokens", cut_at_special_token),
    ("line_mode", keep_first_line),
    ("max_lines", limit_lines),
    ("suffix_overlap", cut_suffix_overlap),
    ("repetition", cut_repetition),
    ("trailing_whitespace", trim_end),
    ("blank", drop_blank),
)


def postprocess(text: str, place: Place) -> tuple[str, str | None]:
    """The text to show and None, or "" and the name of the filter that left nothing of it."""
    if not text:
        return "", "the model had nothing to add"
    for name, apply in FILTERS:
        text = apply(text, place)
        if not text:
            return "", name
    return text, None
