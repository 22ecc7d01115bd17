"""Where completions end. `║` marks the cursor in the file, `┤` where the completion has to end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.stopping import StopDetector

GOLDEN = [
    # line mode: the rest of the line
    ("line", "x = ║compute(a)┤\ny = 2\n"),
    ("line", "x = ║┤\n\ny"),
    # block mode after a header: until the indentation comes back
    ("block", "def f():║\n    return 1┤\n\n\ndef g():\n"),
    ("block", "if a:║\n    b()\n    c()┤\nelse:\n    d()\n"),
    ("block", "    for x in y:║\n        z(x)┤\n    return\n"),
    # block mode on an empty line inside a block: until the indentation falls below the cursor's
    ("block", "def f():\n    ║a = 1\n    if a:\n        b()\n    return a┤\n\ndef g():\n"),
    # a closing bracket belongs to the line that opened it
    ("block", "call(║\n    a,\n    b,\n)┤\nother()\n"),
    # at column 0 an empty line and a new statement begin the next block
    ("block", "║import os\nimport sys┤\n\nX = 1\n"),
    ("block", "║class A:\n    x = 1\n\n    y = 2┤\n\n\nclass B:\n"),
]


@pytest.mark.parametrize(("mode", "case"), GOLDEN)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_golden(mode, case, size):
    prefix, rest = case.split("║")
    expected, after = rest.split("┤")
    assert run(prefix, mode, (), expected + after, size) == (expected, True)


def run(prefix, mode, stop, text, size):
    detector = StopDetector(prefix, mode, stop)
    sent, ended = "", False
    for at in range(0, len(text), size):
        piece, ended = detector.push(text[at : at + size])
        sent += piece
        if ended:
            break
    return sent + detector.finish(), ended


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_stop_string_across_pieces_is_never_sent(size):
    assert run("", "auto", ("END", "EN!"), "some EN text END more", size) == ("some EN text ", True)


def test_without_a_stop_everything_is_sent():
    assert run("", "auto", (), "a\n\n\nb", 2) == ("a\n\n\nb", False)


def test_deadline_drops_the_unfinished_line_but_not_the_only_one():
    several = StopDetector("def f():", "block", ())
    sent = several.push("\n    a = 1\n    b = 2\n    c = ")[0] + several.finish(whole_lines=True)
    assert sent == "\n    a = 1\n    b = 2"
    single = StopDetector("x = ", "block", ())
    assert single.push("comp")[0] + single.finish(whole_lines=True) == "comp"


@given(
    text=st.text(alphabet="ab \n()", max_size=80),
    sizes=st.lists(st.integers(1, 9), min_size=1),
    stop=st.lists(st.text(alphabet="ab \n", min_size=1, max_size=3), max_size=2),
    mode=st.sampled_from(["auto", "line", "block"]),
    prefix=st.sampled_from(["", "    ", "def f():", "  x = ("]),
)
def test_how_the_text_arrives_does_not_change_what_is_sent(text, sizes, stop, mode, prefix):
    whole = run(prefix, mode, stop, text, max(len(text), 1))
    detector = StopDetector(prefix, mode, stop)
    sent, at, ended, turn = "", 0, False, 0
    while at < len(text) and not ended:
        size = sizes[turn % len(sizes)]
        piece, ended = detector.push(text[at : at + size])
        sent, at, turn = sent + piece, at + size, turn + 1
    sent += detector.finish()
    assert text.startswith(sent)
    assert sent == whole[0]
    assert not any(s in sent for s in stop)
