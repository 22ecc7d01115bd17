"""How a line goes on before anybody has typed it."""

from __future__ import annotations

import pytest

from lsp_server.decision import missing_indentation, next_line


@pytest.mark.parametrize(
    ("prefix", "missing"),
    [
        ("def f():\n", "    "),
        ("def f():\n    a = 1\n", "    "),
        ("def f():\n    a = 1\n  ", "  "),
        ("def f():\n    if a:\n    ", "    "),
        ("function f() {\n  if (a) {\n  ", "  "),
        ("/**\n * Doc.\n */\nfunction f() {\n  a();\n}\nfunction g() {\n", "  "),
        ("func f() {\n\tif a {\n", "\t\t"),
        ("function f() {\n  ", ""),  # the editor has indented, by its own step
        ("def f():\n    return 1\n", ""),
        ("def f():\n    a = 1\n\n", ""),
        ("def f():\n    a", ""),
        ("def f():", ""),
        ("", ""),
    ],
)
def test_indentation_that_is_still_to_be_typed(prefix: str, missing: str) -> None:
    assert missing_indentation(prefix) == missing


@pytest.mark.parametrize(
    ("prefix", "following"),
    [
        ("a = 1", "\n"),
        ("  if (a) {", "\n    "),
        ("if a:", "\n    "),
        ("\tif a {", "\n\t\t"),
        ("    return a", None),
        ("", None),
    ],
)
def test_the_line_after_a_complete_one(prefix: str, following: str | None) -> None:
    assert next_line(prefix) == following
