"""Which part of a text is the middle of a fill-in-the-middle sample, as character offsets (start, end).

Kinds of middles after Bavarian et al. 2022 (characters, lines) and Gong et al. 2025, "Structure-Aware
Fill-in-the-Middle Pretraining for Code" (syntax nodes).
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from itertools import accumulate

from training.corpus.filters import NOT_PYTHON, parsed

Span = tuple[int, int]

_LINE_COUNTS = (1, 1, 1, 2, 3, 5)  # of whole-line middles
_TRIES = 3  # comments, docstrings and the insides of brackets do not parse
_LONGEST_BLOCK = 40  # lines that are parsed; keeps the cost of a syntax node far below that of the row


def characters(choose: random.Random, text: str) -> Span:
    """Ends anywhere."""
    end = choose.randrange(len(text) + 1)
    return choose.randrange(end + 1), end


def rest_of_line(choose: random.Random, text: str) -> Span:
    """From any character to its line's end."""
    start = choose.randrange(len(text) + 1)
    end = text.find("\n", start)
    return start, end if end >= 0 else len(text)


def whole_lines(choose: random.Random, text: str) -> Span:
    """A few lines, from behind the first one's indentation to the last one's end."""
    lines = text.split("\n")
    filled = _filled(lines)
    if not filled:
        return characters(choose, text)
    first = choose.choice(filled)
    last = min(first + choose.choice(_LINE_COUNTS), len(lines)) - 1
    return _span_of_lines(lines, first, last)


def syntax_node(choose: random.Random, text: str) -> Span:
    """An expression, a statement or the body of one; where the text is no Python, an indented block.

    A window of a file seldom parses, so only the block that begins at some line is parsed.
    """
    lines = text.split("\n")
    filled = _filled(lines)
    if not filled:
        return characters(choose, text)
    for _ in range(_TRIES):
        first = choose.choice(filled)
        last = _end_of_block(lines, first)
        kinds = [spans for spans in _nodes("\n".join(lines[first : last + 1])) if spans]
        if kinds:
            start, end = choose.choice(choose.choice(kinds))
            offset = _line_starts(lines)[first]
            return offset + start, offset + end
    return _span_of_lines(lines, first, last)


def _filled(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if line.strip()]


def _line_starts(lines: list[str]) -> list[int]:
    return [0, *accumulate(len(line) + 1 for line in lines)]


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _span_of_lines(lines: list[str], first: int, last: int) -> Span:
    while not lines[last].strip():
        last -= 1
    starts = _line_starts(lines)
    return starts[first] + _indentation(lines[first]), starts[last] + len(lines[last])


def _end_of_block(lines: list[str], first: int) -> int:
    """The last line that belongs to the one at `first` by its indentation, or by a bracket that it closes."""
    depth, last = _indentation(lines[first]), first
    for number in range(first + 1, min(first + _LONGEST_BLOCK, len(lines))):
        line = lines[number]
        if not line.strip():
            continue
        if _indentation(line) < depth or (_indentation(line) == depth and line.lstrip()[0] not in ")]}"):
            break
        last = number
    return last


def _nodes(block: str) -> list[list[Span]]:
    """Spans of the expressions, statements and bodies in `block`; nothing when it does not parse."""
    if "\r" in block:  # a line break for the parser, not for us
        return []
    indented = block[0] in " \t"
    try:
        statements: list[ast.stmt] = parsed(f"if 1:\n{block}" if indented else block).body
    except NOT_PYTHON:
        return []
    if indented and isinstance(statements[0], ast.If):
        statements = statements[0].body
    lines = block.split("\n")
    starts = _line_starts(lines)

    def offset(line: int, column: int) -> int:
        number = line - 1 - indented
        return starts[number] + len(lines[number].encode()[:column].decode(errors="ignore"))  # columns are bytes

    def span(first: ast.stmt | ast.expr, last: ast.stmt | ast.expr) -> Span:
        return offset(first.lineno, first.col_offset), offset(last.end_lineno or 0, last.end_col_offset or 0)

    nodes = [node for statement in statements for node in ast.walk(statement)]
    return [
        [span(n, n) for n in nodes if isinstance(n, ast.expr) and not isinstance(n, ast.Name | ast.Constant)],
        [span(n, n) for n in nodes if isinstance(n, ast.stmt)],
        [span(body[0], body[-1]) for body in _bodies(nodes)],
    ]


def _bodies(nodes: list[ast.AST]) -> Iterator[list[ast.stmt]]:
    for node in nodes:
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            yield body
