"""Writing one shard: a block of the corpus becomes three files and an entry, all or none of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from inference_service.model.tokenizer import Tokenizer
from training.documents import Block, read_block
from training.shards.layout import DOCUMENT, ShardEntry, shard_file, token_dtype, write_json, writing_to

SUFFIXES = ("tokens", "documents", "paths")


class _HashedFile:
    """A file that is written once, with its length and SHA-256."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._sha256 = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.length += len(data)

    def close(self) -> str:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._sha256.hexdigest()


def write_shard(
    block: Block, folder: Path, number: int, tokenizer: Tokenizer, advanced: Callable[[int], None]
) -> ShardEntry:
    """Tokenize a block, one document in memory at a time; `advanced` is told the corpus bytes that are done.

    Raises BadDocuments, or BadShard when the disk does not take it; unfinished files are removed then.
    """
    partial = {suffix: shard_file(folder, number, f"{suffix}.partial") for suffix in SUFFIXES}
    try:
        with writing_to(folder):
            entry = _write(block, partial, tokenizer, advanced)
            for suffix, path in partial.items():
                path.replace(shard_file(folder, number, suffix))
            write_json(shard_file(folder, number, "json"), asdict(entry))
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    return entry


def _write(block: Block, paths: dict[str, Path], tokenizer: Tokenizer, advanced: Callable[[int], None]) -> ShardEntry:
    dtype = token_dtype(tokenizer.vocab_size)
    files = {suffix: _HashedFile(path) for suffix, path in paths.items()}
    documents = 0
    for document, length in read_block(block):
        files["tokens"].write(np.array(tokenizer.encode(document.text), dtype).tobytes())
        files["paths"].write(document.path.encode("utf-8", "replace"))
        ends = files["tokens"].length // dtype.itemsize, files["paths"].length
        files["documents"].write(np.array((*ends, _package_number(document.package)), DOCUMENT).tobytes())
        documents += 1
        advanced(length)
    tokens = files["tokens"].length // dtype.itemsize
    digests = {suffix: file.close() for suffix, file in files.items()}
    return ShardEntry(documents, tokens, {suffix: file.length for suffix, file in files.items()}, digests)


def _package_number(name: str) -> int:
    """The same in every shard, with no table of names to keep."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "little")
