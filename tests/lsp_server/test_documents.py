"""The mirror and the windows, against plain string edits."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types
from pygls.workspace import PositionCodec

from lsp_server import documents
from lsp_server.documents import (
    PREFIX_BUDGET,
    SUFFIX_BUDGET,
    Document,
    file_of,
    relative_path,
    snapshot,
    window_prefix,
    window_suffix,
)
from lsp_server.spot import Spot

TEXT = st.text(st.sampled_from("ab \n\r\té😀\u2028\x0c\x85𝔘"), max_size=40)
ENCODINGS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
UNIT = {"utf-8": 1, "utf-16": 2, "utf-32": 4}


def position_of(text: str, offset: int, encoding: str) -> types.Position:
    """What an editor calls the place `offset` characters into `text`."""
    before = re.split("\r\n|\n|\r", text[:offset])
    return types.Position(len(before) - 1, len(before[-1].encode(ENCODINGS[encoding])) // UNIT[encoding])


def inside_a_line_end(text: str, offset: int) -> bool:
    return text[max(0, offset - 1) : offset + 1] == "\r\n"


@settings(max_examples=150, deadline=None)
@given(st.data(), TEXT, st.sampled_from(sorted(ENCODINGS)))
def test_mirror_follows_any_edits_in_any_encoding(data: st.DataObject, text: str, encoding: str) -> None:
    document = Document("file:///a", text, 1, "x", position_codec=PositionCodec(encoding))
    for _ in range(6):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        if inside_a_line_end(text, start) or inside_a_line_end(text, end):
            continue
        new = data.draw(TEXT)
        where = types.Range(position_of(text, start, encoding), position_of(text, end, encoding))
        document.apply_change(types.TextDocumentContentChangePartial(range=where, text=new))
        text = text[:start] + new + text[end:]
        assert document.source == text
        ends = [match.end() for match in re.finditer("\r\n|\n|\r", text)]
        assert list(document._line_starts()) == [0, *ends]


@settings(max_examples=100, deadline=None)
@given(TEXT, st.integers(0, 40), st.sampled_from(sorted(ENCODINGS)))
def test_snapshot_splits_at_the_cursor(text: str, offset: int, encoding: str) -> None:
    offset = min(offset, len(text))
    if inside_a_line_end(text, offset):
        return
    document = Document("file:///a", text, 1, "x", position_codec=PositionCodec(encoding))
    taken = snapshot(document, position_of(text, offset, encoding), [])
    assert (taken.before, taken.after) == (text[:offset], text[offset:])
    assert document.client_position_at_offset(offset) == position_of(text, offset, encoding)


@pytest.mark.parametrize(
    ("line", "character", "before"),
    [(0, 99, "ab"), (9, 0, "ab\r\n😀c"), (1, 1, "ab\r\n"), (1, 2, "ab\r\n😀")],
    ids=["past the line", "past the text", "inside a surrogate pair", "after it"],
)
def test_positions_off_the_text_are_clamped(line: int, character: int, before: str) -> None:
    document = Document("file:///a", "ab\r\n😀c", 1, "x")
    assert snapshot(document, types.Position(line, character), []).before == before


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_typed_text_is_recognised(before: str, after: str, typed: str) -> None:
    document = Document("file:///a", before + after, 1, "x", position_codec=PositionCodec("utf-32"))
    if inside_a_line_end(before + after, len(before)):
        return
    taken = snapshot(document, position_of(before + after, len(before), "utf-32"), [])
    assert taken.between(before + typed + after) == typed.replace("\r\n", "\n").replace("\r", "\n")


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT, st.lists(TEXT, max_size=4), st.integers(0, 3))
def test_typed_text_is_recognised_in_a_file_of_which_only_a_part_is_looked_at(
    before: str, after: str, typed: list[str], start: int
) -> None:
    """Between two requests as well as between a request and the document."""
    start = min(start, len(typed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "SEEN_BEFORE", 200)
        patch.setattr(documents, "SEEN_AFTER", 7)
        before = "above\r\n" * 30 + before
        taken = []
        for text in itertools.accumulate(typed, initial=before):
            document = Document("file:///a", text + after, 1, "x", position_codec=PositionCodec("utf-32"))
            # Nobody types the halves of a line end one by one.
            if any(inside_a_line_end(now, len(text)) for now in (text + after, before + "".join(typed) + after)):
                return
            taken.append(snapshot(document, position_of(text + after, len(text), "utf-32"), []))
    first, last = taken[start], taken[-1]
    assert first.size == len(before + after) + len("".join(typed[:start]))
    since = documents.normalise("".join(typed[start:]))
    assert first.between(document.source) == Spot(first).typed_until(Spot(last)) == since
    assert Spot(first, since).typed_until(Spot(last)) == Spot(first, since).typed_in(document.source) == ""


LINES = st.lists(st.text(st.sampled_from("xy "), max_size=90), min_size=40, max_size=400).map("\n".join)


@settings(max_examples=40, deadline=None)
@given(LINES, st.lists(st.sampled_from(["a", "bc", "\n", "d" * 300]), max_size=30))
def test_window_stands_still_while_typing_and_moves_in_jumps(prefix: str, keys: list[str]) -> None:
    prefix *= 2
    cuts = []
    for key in ["", *keys]:
        prefix += key
        window = window_prefix(prefix)
        assert prefix.endswith(window)
        assert len(window) <= PREFIX_BUDGET
        cut = len(prefix) - len(window)
        assert cut == 0 or len(window) > PREFIX_BUDGET / 2, "most of the budget is used"
        assert cut == 0 or prefix[cut - 1] == "\n", "whole lines"
        cuts.append(cut)
    for earlier, later in itertools.pairwise(cuts):
        assert later == earlier or later - earlier >= 1024


def test_windows_of_a_file_without_line_ends() -> None:
    assert 0 < len(window_prefix("x" * 50_000)) <= PREFIX_BUDGET
    assert len(window_suffix("x" * 50_000)) == SUFFIX_BUDGET
    assert window_suffix("ab\n" * 1000) == "ab\n" * (SUFFIX_BUDGET // 3)


@pytest.mark.parametrize(
    ("file", "folders", "path"),
    [
        ("/w/src/a.py", ["/w"], "src/a.py"),
        ("/w/src/a.py", ["/w", "/w/src"], "a.py"),
        ("/home/ann/a.py", ["/w"], "a.py"),
        ("/wide/a.py", ["/w"], "a.py"),
        ("c:/w/src/a.py", ["c:\\w"], "src/a.py"),
    ],
)
def test_paths_are_relative_to_the_workspace(file: str, folders: list[str], path: str) -> None:
    assert relative_path(file, folders) == path


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("file:///w/a%20b.py", "/w/a b.py"),
        ("file:///C%3A/w/a.py", "c:/w/a.py"),
        ("vscode-notebook-cell:/w/nb.ipynb#W0sZmls", "/w/nb.ipynb"),
        ("vscode-notebook-cell:/c%3A/w/nb.ipynb#W0sZmls", "c:/w/nb.ipynb"),
        ("vscode-remote://host/w/100%25.py", "/w/100%.py"),
        ("untitled:Untitled-1", "Untitled-1"),
    ],
)
def test_uris_as_paths(uri: str, file: str) -> None:
    assert file_of(uri) == file
