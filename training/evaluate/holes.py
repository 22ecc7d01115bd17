"""Where held-out code is cut out, to be filled in again."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference_service.model.tokenizer import Tokenizer
from training.corpus.filters import parsed, parses
from training.evaluate.loss import Piece
from training.shards import TokenDataset

_DOCUMENT_TOKENS = 1000  # a whole document of that length fits the context of the models that we train
_BLOCK_LINES = range(2, 6)
_SPAN_CHARS = range(10, 151)


@dataclass(frozen=True, slots=True)
class Hole:
    path: str
    prefix: str
    middle: str
    suffix: str


def line_holes(pieces: Sequence[Piece], count: int, seed: int, *, whole_line: bool) -> list[Hole]:
    """One hole a piece: a whole line after its indentation, or the rest of a line from a word boundary on."""
    choose = random.Random(seed)  # noqa: S311
    holes: list[Hole] = []
    for path, text, *_ in pieces:
        lines = text.split("\n")
        usable = [
            i
            for i in range(len(lines) // 3, len(lines) - 1)
            if len(lines[i].strip()) >= 8 and lines[i].strip()[0] not in "#\"'"
        ]
        if not usable:
            continue
        number = choose.choice(usable)
        line = lines[number]
        start = len(line) - len(line.lstrip())
        if not whole_line:
            words = [i for i in range(start + 4, len(line) - 2) if not line[i - 1].isalnum() and line[i - 1] != "_"]
            if not words:
                continue
            start = choose.choice(words)
        before = "\n".join([*lines[:number], line[:start]])
        holes.append(Hole(path, before, line[start:], "\n" + "\n".join(lines[number + 1 :])))
        if len(holes) == count:
            break
    return holes


def whole_documents(shard: TokenDataset, tokenizer: Tokenizer, count: int, seed: int) -> list[Piece]:
    """`count` documents of at most 1,000 tokens that parse. `tokenizer` is the one that the shard was prepared with."""
    numbers = list(range(len(shard)))
    random.Random(seed).shuffle(numbers)  # noqa: S311
    documents: list[Piece] = []
    for number in numbers:
        if len(documents) == count:
            break
        tokens = shard.document(number)
        if len(tokens) <= _DOCUMENT_TOKENS:
            text = tokenizer.decode(tokens.tolist())
            if "\r" not in text and parses(text):
                documents.append(Piece(shard.path(number), text, shard.package(number)))
    return documents


def block_holes(documents: Sequence[Piece], count: int, seed: int) -> list[Hole]:
    """One hole a document: the last statements of an indented block, 2 to 5 lines, from after their indentation to
    the end of the block. That is where the service's block rule ends a completion too."""
    choose = random.Random(seed)  # noqa: S311
    holes: list[Hole] = []
    for path, text, *_ in documents:
        if len(holes) == count:
            break
        lines = text.split("\n")
        blocks = [(first, last) for first, last in _block_ends(text) if last - first + 1 in _BLOCK_LINES]
        if not blocks:
            continue
        first, last = choose.choice(blocks)
        indent = len(lines[first]) - len(lines[first].lstrip())
        prefix = "\n".join([*lines[:first], lines[first][:indent]])
        middle = "\n".join([lines[first][indent:], *lines[first + 1 : last + 1]])
        holes.append(Hole(path, prefix, middle, text[len(prefix) + len(middle) :]))
    return holes


def span_holes(documents: Sequence[Piece], count: int, seed: int) -> list[Hole]:
    """One hole a document: 10 to 150 characters from any character on (random spans as in Bavarian et al. 2022)."""
    choose = random.Random(seed)  # noqa: S311
    holes: list[Hole] = []
    for path, text, *_ in documents:
        if len(holes) == count:
            break
        length = choose.choice(_SPAN_CHARS)
        begin = len(text) // 5  # something to go by
        if begin >= len(text) - length:
            continue
        start = choose.randrange(begin, len(text) - length)
        middle = text[start : start + length]
        if middle.strip():
            holes.append(Hole(path, text[:start], middle, text[start + length :]))
    return holes


def _block_ends(text: str) -> Iterator[tuple[int, int]]:
    """(first, last) line numbers, from 0, of the last statements of each indented block."""
    lines = text.split("\n")
    for node in ast.walk(parsed(text)):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if not isinstance(node, ast.stmt | ast.ExceptHandler) or not isinstance(block, list) or not block:
                continue
            for statement in block:
                decorators = [decorator.lineno for decorator in getattr(statement, "decorator_list", [])]
                first = min(decorators, default=statement.lineno) - 1
                indent = len(lines[first]) - len(lines[first].lstrip())
                # not behind a colon or semicolon, no `elif`
                begins_its_line = statement.col_offset == indent > node.col_offset
                if begins_its_line and not _is_docstring(statement):
                    yield first, block[-1].end_lineno - 1


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
