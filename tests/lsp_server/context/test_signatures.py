"""Heads of functions and classes, and the files they are imported from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.context.imports import Import, imports_of
from lsp_server.context.signatures import headings, python_pieces, python_signature

MODULE = '''\
"""A module."""
import os

LIMIT = 3

@decorated
def area(width: float, height: float = 1.0, *, unit: str = "m") -> float:
    """Doc."""
    return width * height


class Shape(Base, abc.ABC):
    name: str = "x"

    def __init__(self, name: str) -> None:
        self.name = name

    def scaled(self, by):
        return self

    def _hidden(self):
        pass


def broken(:
    pass


async def fetch(url: str) -> bytes:
    return b""

x = 1
'''


LINES = st.lists(
    st.sampled_from(["def f(a):\n", "class C:\n", "    pass\n", "x = 1\n", "@d\n", ")\n", "\n"]), max_size=12
).map("".join)


def signatures(names: set[str]) -> str:
    return "\n".join(filter(None, (python_signature(piece, names) for piece in python_pieces(MODULE))))


def test_heads_without_bodies() -> None:
    assert signatures({"area", "fetch"}) == (
        "def area(width: float, height: float=1.0, *, unit: str='m') -> float: ...\n"
        "async def fetch(url: str) -> bytes: ..."
    )


def test_a_class_is_its_fields_and_public_methods() -> None:
    assert signatures({"Shape"}) == (
        "class Shape(Base, abc.ABC):\n"
        "    name: str\n"
        "    def __init__(self, name: str) -> None: ...\n"
        "    def scaled(self, by): ..."
    )


def test_what_does_not_parse_is_left_out_and_the_rest_is_not() -> None:
    assert signatures({"broken"}) == ""
    assert "fetch" in signatures(set())


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("export function area(w: T): T {\n  return w;\n}\n", {"area"}, "export function area(w: T): T"),
        ("pub fn area(w: f64) -> f64 {\n}\nfn other() {}\n", {"area"}, "pub fn area(w: f64) -> f64"),
        ("func Area(w float64) float64 {\n}\n", {"Other"}, ""),
    ],
)  # fmt: skip
def test_other_languages_by_their_declarations(text: str, names: set[str], expected: str) -> None:
    assert headings(text, names) == expected


@given(LINES)
def test_any_file_comes_apart(text: str) -> None:
    for piece in python_pieces(text):
        assert piece in text
        python_signature(piece, set())


def test_python_imports_name_files_in_the_workspace() -> None:
    text = "from shapes.flat import Square, Circle as C  # round\nfrom ..base import (\n    A,\n    B,\n)\nimport os\n"
    assert list(imports_of(text, "/w/app/views/main.py", ["/w"])) == [
        Import(
            frozenset({"Square", "Circle"}),
            tuple(f"/w/{place}" for place in (
                "shapes/flat.py", "shapes/flat/__init__.py", "src/shapes/flat.py", "src/shapes/flat/__init__.py"
            )),
        ),
        Import(frozenset({"A", "B"}), ("/w/app/base.py", "/w/app/base/__init__.py")),
    ]  # fmt: skip


def test_script_imports_are_relative() -> None:
    text = "import { area, Shape as S } from '../shapes'\nimport fs from 'fs'\n"
    [found] = imports_of(text, "/w/app/main.ts", ["/w"])
    assert found.names == {"area", "Shape"}
    assert "/w/shapes.ts" in found.files
    assert "/w/shapes/index.ts" in found.files
