"""Completions beside brackets that the editor closed by itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.overlap import replaced_length


@pytest.mark.parametrize(
    ("marked", "text", "accepted"),
    [
        ("f(║)", "a, b)", "f(a, b)"),
        ("f(║)", "g(x)", "f(g(x))"),
        ("f(║)", "g(x))", "f(g(x))"),
        ("f(g(║))", "x)", "f(g(x))"),
        ("f(║):", "a):", "f(a):"),
        ("f(║):", "a)", "f(a):"),
        ("f(║)", "a):", "f(a):"),
        ("f(║);", "a);", "f(a);"),
        ('d["║"]', 'key"]', 'd["key"]'),
        ('d["║"]', "key", 'd["key"]'),
        ("x = [║]", "\n    1,\n]", "x = [\n    1,\n]"),
        ("return ║ + b", "a + b", "return a + b"),
        ("return ║ + b", "a", "return a + b"),
        ("return ║a, b) + c", "f(a, b)", "return f(a, b) + c"),
        ("if x║:", " > 1:", "if x > 1:"),
        ("if x║:", " > 1", "if x > 1:"),
        ("x = ║", "f(1)", "x = f(1)"),
        ("f( ║ )", "a )", "f( a )"),
    ],
)
def test_accepting_gives_the_line_one_would_write(marked: str, text: str, accepted: str) -> None:
    before, rest = marked.split("║")
    assert before + text + rest[replaced_length(text, rest) :] == accepted


NESTED = st.recursive(
    st.sampled_from(["a", "b, c", "x.y", " + "]),
    lambda inner: st.tuples(st.sampled_from(["()", "[]", "{}"]), st.lists(inner, max_size=3)).map(
        lambda pair: pair[0][0] + "".join(pair[1]) + pair[0][1]
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(NESTED, NESTED, st.data())
def test_auto_closed_brackets_are_never_doubled_or_lost(left: str, right: str, data: st.DataObject) -> None:
    line = left + right
    cursor = data.draw(st.integers(0, len(line)))
    pairs = {"(": ")", "[": "]", "{": "}"}
    missing: list[str] = []
    for char in line[:cursor]:
        if char in pairs:
            missing.append(pairs[char])
        elif char in pairs.values():
            missing.pop()
    auto_closed = "".join(reversed(missing))
    # The model stops after it closed so many of the brackets that were open at the cursor.
    closed = data.draw(st.integers(0, len(missing)))
    text, depth, done = "", 0, 0
    for char in line[cursor:]:
        if done == closed and depth == 0 and char in pairs.values():
            break
        text += char
        depth += (char in pairs) - (char in pairs.values())
        if depth < 0:
            depth, done = 0, done + 1
    accepted = line[:cursor] + text + auto_closed[replaced_length(text, auto_closed) :]
    assert accepted == line[:cursor] + text + auto_closed[closed:]
