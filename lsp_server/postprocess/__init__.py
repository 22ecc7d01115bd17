"""From what a model wrote to what may be shown: pure filters, one a file, applied in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lsp_server.postprocess.artefacts import cut_artefacts
from lsp_server.postprocess.blank import drop_blank
from lsp_server.postprocess.code_fence import cut_fence
from lsp_server.postprocess.double_space import trim_double_space
from lsp_server.postprocess.empty_comment import cut_empty_comments
from lsp_server.postprocess.indentation_scope import cut_at_end_of_block
from lsp_server.postprocess.indentation_unit import use_indentation_unit
from lsp_server.postprocess.json_brackets import cut_at_unbalanced_bracket
from lsp_server.postprocess.line_mode import keep_first_line
from lsp_server.postprocess.max_lines import limit_lines
from lsp_server.postprocess.mid_line import keep_line_within_line
from lsp_server.postprocess.open_string import cut_open_string
from lsp_server.postprocess.place import Place
from lsp_server.postprocess.prefix_echo import cut_prefix_echo
from lsp_server.postprocess.repeated_above import drop_repeated_above
from lsp_server.postprocess.repetition import cut_repetition
from lsp_server.postprocess.similar_below import drop_similar_below
from lsp_server.postprocess.similar_blocks import cut_similar_blocks
from lsp_server.postprocess.similar_lines import cut_similar_lines
from lsp_server.postprocess.special_tokens import cut_at_special_token
from lsp_server.postprocess.suffix_overlap import cut_suffix_overlap
from lsp_server.postprocess.suffix_start import cut_at_suffix
from lsp_server.postprocess.trailing_whitespace import trim_end

Filter = Callable[[str, Place], str]

FILTERS: tuple[tuple[str, Filter], ...] = (
    ("special_tokens", cut_at_special_token),
    ("artefacts", cut_artefacts),
    ("code_fence", cut_fence),
    ("prefix_echo", cut_prefix_echo),
    ("double_space", trim_double_space),
    ("line_mode", keep_first_line),
    ("mid_line", keep_line_within_line),
    ("indentation_unit", use_indentation_unit),
    ("indentation_scope", cut_at_end_of_block),
    ("max_lines", limit_lines),
    ("suffix_start", cut_at_suffix),
    ("suffix_overlap", cut_suffix_overlap),
    ("similar_below", drop_similar_below),
    ("empty_comment", cut_empty_comments),
    ("json_brackets", cut_at_unbalanced_bracket),
    ("repetition", cut_repetition),
    ("repeated_above", drop_repeated_above),
    ("similar_lines", cut_similar_lines),
    ("similar_blocks", cut_similar_blocks),
    ("open_string", cut_open_string),
    ("trailing_whitespace", trim_end),
    ("blank", drop_blank),
)

_MARK = "\N{ASTERISM}"
_MAY_TAKE_BACK = {"open_string", "similar_blocks"}  # once there is more text


@dataclass(frozen=True)
class Filtered:
    """What is left; where that is nothing, `dropped_by` says why. `changed_by` are the filters that cut something."""

    text: str
    dropped_by: str | None
    changed_by: tuple[str, ...]


def postprocess(text: str, place: Place) -> Filtered:
    """The text to show, or "" and the name of the filter that left nothing of it."""
    if not text:
        return Filtered("", "the model had nothing to add", ())
    changed: list[str] = []
    for name, apply in FILTERS:
        before, text = text, apply(text, place)
        if text != before:
            changed.append(name)
        if not text:
            return Filtered("", name, tuple(changed))
    return Filtered(text, None, tuple(changed))


def is_settled(text: str, place: Place) -> bool:
    """Whether what is shown of a completion that begins with the whole lines of `text` is known, whatever comes after
    them. Sometimes it is and this says no."""
    whole = text[: text.rfind("\n") + 1]
    if not whole.strip():
        return False
    indentation = place.line_prefix[: len(place.line_prefix) - len(place.line_prefix.lstrip())]
    filtered = postprocess(f"{whole}{indentation}{_MARK}", place)
    if _MARK in filtered.text or _MAY_TAKE_BACK.intersection(filtered.changed_by):
        return False
    return filtered.text == postprocess(whole, place).text  # that of an end may be cut elsewhere
