"""Comments and strings, which can be switched off."""

from __future__ import annotations

import pytest

from lsp_server.scope import scope_at
from tests.lsp_server.conftest import Editor


@pytest.mark.parametrize(
    ("language", "prefix", "scope"),
    [
        ("python", "x = 1", "code"),
        ("python", "x = 1  # the", "comment"),
        ("python", "# done\nx", "code"),
        ("python", "s = 'a # b", "string"),
        ("python", "s = 'a' + ", "code"),
        ("python", 'def f():\n    """Does\n  it', "string"),
        ("python", 'def f():\n    """Does it."""\n    ', "code"),
        ("python", "s = 'it\\'s", "string"),
        ("python", 'f("', "string"),
        ("typescript", "let x = 1 // the", "comment"),
        ("typescript", "/* a\n b", "comment"),
        ("typescript", "/* a */ ", "code"),
        ("typescript", "/* a */", "code"),
        ("typescript", "const s = `a\nb", "string"),
        ("typescript", "const u = 'http://x", "string"),
        ("lua", "-- a", "comment"),
    ],
)
def test_scope_at_the_cursor(language: str, prefix: str, scope: str) -> None:
    assert scope_at(prefix, language) == scope


@pytest.mark.parametrize(("key", "marked"), [("completeComments", "# the ║\n"), ("completeStrings", "s = 'the ║\n")])
def test_each_can_be_switched_off(editor: Editor, key: str, marked: str) -> None:
    editor.configure(**{key: False})
    editor.open(marked)
    assert editor.texts() == []
    assert f"midfill.{key}" in editor.why()
    editor.configure()
    assert editor.texts() == ["pass"]
