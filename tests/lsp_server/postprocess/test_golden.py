"""What is left of a model's text: golden cases in golden.txt, and what holds for all texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lsp_server.postprocess import FILTERS, is_settled, postprocess
from lsp_server.postprocess.place import Place
from lsp_server.postprocess.repetition import is_looping

HERE = Path(__file__).parent
MAX_LINES = 6
CASE = re.compile(
    r"^--- (?P<title>.*)\n(?P<file>(?:.*\n)*?)>>>\n(?P<written>(?:.*\n)*?)===\n(?P<shown>(?:(?!--- ).*\n)*)",
    re.MULTILINE,
)
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.txt"))}
CASES = [(name, *case) for name, text in TEXTS.items() for case in CASE.findall(text)]


def part(text: str) -> str:
    return text.removesuffix("\n").replace("␠", " ").replace("⏎", "")


@pytest.mark.parametrize(
    ("name", "title", "file", "written", "shown"), CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES]
)
def test_golden(name: str, title: str, file: str, written: str, shown: str) -> None:
    """A case: a title, the file with the cursor at ║, after >>> what the model wrote, after === what is shown; an
    empty part after === means nothing. A title may begin with mode=line (else a block is asked for) or lang=….
    A part's last line end is not part of it; ␠ is a blank at the end of a line, ⏎ an empty line at an end.
    """
    prefix, suffix = part(file).split("║")
    language = re.match(r"lang=(\w+)", title)
    mode = "line" if title.startswith("mode=line") else "block"
    filtered = postprocess(part(written), Place(prefix, suffix, mode, MAX_LINES, language[1] if language else ""))
    assert filtered.text == part(shown.rstrip("\n") + "\n")
    assert (filtered.dropped_by is None) == bool(filtered.text)
    if part(written).rstrip() != filtered.text:
        assert name in (*filtered.changed_by, "pipeline")


def test_every_filter_has_cases_and_all_are_read() -> None:
    assert set(TEXTS) == {name for name, _ in FILTERS} | {"pipeline"}
    assert len(CASES) == sum(len(re.findall("^--- ", text, re.MULTILINE)) for text in TEXTS.values())


CODE = st.text(st.sampled_from("ab =(){}\n"), max_size=40)


@settings(max_examples=200, deadline=None)
@given(CODE, CODE, CODE, st.sampled_from(["line", "block"]))
def test_nothing_is_made_up(prefix: str, suffix: str, text: str, mode: str) -> None:
    """But for indentation, what is shown is a piece of what was written, at its beginning or after an echo."""
    filtered = postprocess(text, Place(prefix, suffix, mode, MAX_LINES))
    shown = filtered.text
    assert "".join(shown.split()) in "".join(text.split())
    assert shown == shown.rstrip()
    assert shown.count("\n") < (1 if mode == "line" else MAX_LINES)
    assert bool(shown) == (filtered.dropped_by is None)
    assert not text or shown or filtered.dropped_by in dict(FILTERS)


@pytest.mark.parametrize("text", ["1, 2, " * 40, "a = 1\n" + "b = 2\n" * 40, "x()\n" + "a()\nb()\n" * 20, "abc" * 50])
def test_a_loop_is_noticed_before_its_end_and_costs_nothing_that_is_shown(text: str) -> None:
    """An answer that is broken off there reads the same as the whole one."""
    place = Place("", "", "block", 99)
    enough = next(length for length in range(len(text)) if is_looping(text[:length]))
    assert enough < len(text) / 2
    assert postprocess(text[:enough], place).text == postprocess(text, place).text


@pytest.mark.parametrize("text", ["", "\n\n\n\n\n", "a = 1\na = 2\na = 3\na = 4", "[0, 0, 0, 0]", "}\n}\n"])
def test_what_only_looks_alike_is_no_loop(text: str) -> None:
    assert not is_looping(text)


LINE = st.sampled_from(["a = b", "a = c", "    a(b)", "    a(b)", "}", "", '    """', "# a", "<|im_end|>"])
LINES = st.lists(LINE, max_size=9)


@settings(max_examples=400, deadline=None)
@given(LINES, LINES, LINES, LINES, st.sampled_from(["", "    "]))
@example([], ["}"], ["}", "}", "}"], ["a = b"], "")
def test_what_is_settled_stays_whatever_comes(
    above: list[str], below: list[str], lines: list[str], more: list[str], indentation: str
) -> None:
    place = Place("\n".join([*above, indentation]), "\n" + "\n".join(below), "block", MAX_LINES, "python")
    text = "\n".join(lines) + "\n"
    if is_settled(text, place):
        assert postprocess(text + "\n".join(more), place).text == postprocess(text, place).text


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("a = 1\n", False),
        ("a = 1\n    b = 2\n    b = 3", False),
        ("a = 1\n    b(c)\n    b(c)\n", True),
        ("a = 1\nb = 2\n", True),
        ("\n".join(f"    name_{n} = {n**9}" for n in range(MAX_LINES)) + "\n", True),
        ('"""Say', False),
        ('"""Say\n    it.\n', False),
    ],
    ids=["one line", "two", "one twice", "out of the block", "as many as are shown", "a word", "an open string"],
)
def test_a_service_need_not_go_on_once_nothing_more_can_be_shown(text: str, settled: bool) -> None:
    assert is_settled(text, Place("def f():\n    ", "\n", "block", MAX_LINES, "python")) == settled
