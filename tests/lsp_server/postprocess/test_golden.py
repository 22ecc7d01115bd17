"""What is left of a model's text: golden cases in golden.txt, and what holds for all texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.postprocess import FILTERS, postprocess
from lsp_server.postprocess.place import Place

MAX_LINES = 6
CASES = re.findall(
    r"^--- (?P<title>.*)\n(?P<file>(?:.*\n)*?)>>>\n(?P<written>(?:.*\n)*?)===\n(?P<shown>(?:(?!--- ).*\n)*)",
    (Path(__file__).parent / "golden.txt").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def part(text: str) -> str:
    return text.removesuffix("\n").replace("␠", " ").replace("⏎", "")


@pytest.mark.parametrize(("title", "file", "written", "shown"), CASES, ids=[case[0] for case in CASES])
def test_golden(title: str, file: str, written: str, shown: str) -> None:
    prefix, suffix = part(file).split("║")
    place = Place(prefix, suffix, "line" if title.startswith("mode=line") else "block", MAX_LINES)
    text, dropped_by = postprocess(part(written), place)
    assert text == part(shown).rstrip("\n")
    assert (dropped_by is None) == bool(text)


def test_all_cases_are_read() -> None:
    assert len(CASES) == (Path(__file__).parent / "golden.txt").read_text(encoding="utf-8").count("\n--- ")


CODE = st.text(st.sampled_from("ab =(){}\n"), max_size=40)


@settings(max_examples=200, deadline=None)
@given(CODE, CODE, CODE, st.sampled_from(["line", "block"]))
def test_what_is_shown_is_a_beginning_of_what_was_written(prefix: str, suffix: str, text: str, mode: str) -> None:
    place = Place(prefix, suffix, mode, MAX_LINES)
    shown, dropped_by = postprocess(text, place)
    assert text.startswith(shown)
    assert shown == shown.rstrip()
    assert shown.count("\n") < (1 if mode == "line" else MAX_LINES)
    assert bool(shown) == (dropped_by is None)
    assert postprocess(shown, place)[0] == shown, "a second pass changes nothing"
    assert dropped_by is None or not text or dropped_by in dict(FILTERS)
