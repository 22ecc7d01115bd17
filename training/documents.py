"""Reading a collected corpus: its documents in order, whole or in blocks that can be read independently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# of a split without documents: what to do
COLLECT_MORE = {
    "train": "give `midfill-train collect` more sources",
    "heldout": "give `midfill-train collect` some code with --hold-out",
}
_SAMPLED_BLOCK = 1 << 16  # bytes; small, so that a sample sees many packages


class BadDocuments(ValueError):
    """Documents that cannot be read; the message says the path and what to do."""


class Document(NamedTuple):
    package: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """The documents of `file` whose line begins at a byte from `begin` up to `end`.

    Blocks that adjoin share no document and miss none, wherever the lines end.
    """

    file: Path
    begin: int
    end: int


def corpus_file(corpus: Path, split: str) -> Path:
    """The documents of a split. Raises BadDocuments when there is no such file."""
    file = corpus / f"{split}.jsonl"
    if not file.is_file():
        raise BadDocuments(f"{file} is missing: run `midfill-train collect` first")
    return file


def blocks(file: Path, size: int) -> list[Block]:
    """All of `file`, `size` bytes at a time, in order."""
    length = file.stat().st_size
    return [Block(file, begin, min(begin + size, length)) for begin in range(0, length, size)]


def sample_blocks(file: Path, wanted: int) -> Iterator[Block]:
    """About `wanted` bytes of `file`, evenly spread, or all of it where there is no more; the rest is never read."""
    length = file.stat().st_size
    stride = max(length * _SAMPLED_BLOCK // wanted, _SAMPLED_BLOCK)
    return (Block(file, begin, min(begin + _SAMPLED_BLOCK, length)) for begin in range(0, length, stride))


def read_block(block: Block) -> Iterator[tuple[Document, int]]:
    """Each document with the bytes of its line. Raises BadDocuments on a line that is none."""
    with block.file.open("rb") as file:
        at = block.begin
        if at:  # a line that began before belongs to the block before
            file.seek(at - 1)
            at += len(file.readline()) - 1
        while at < block.end and (line := file.readline()):
            yield _document(line, block.file, at), len(line)
            at += len(line)


def _document(line: bytes, file: Path, at: int) -> Document:
    try:
        fields = json.loads(line)
        document = Document(fields["package"], fields["path"], fields["text"])
        if not all(isinstance(field, str) for field in document):
            raise TypeError("package, path and text must be strings")
    except KeyError as error:
        raise BadDocuments(f"{file}, byte {at}: no field {error}: run `midfill-train collect` again") from error
    except (ValueError, TypeError) as error:
        raise BadDocuments(f"{file}, byte {at}: not a document ({error}): run `midfill-train collect` again") from error
    return document
