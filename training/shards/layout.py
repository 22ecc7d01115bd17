"""How a prepared split lies on disk.

    train.json                    the manifest, written last: what it names is complete
    train-<identity>/00000.tokens     token ids of all documents, end to end, uint16 or uint32
                     00000.documents  a DOCUMENT record each
                     00000.paths      their paths, UTF-8, end to end
                     00000.json       this shard's entry of the manifest, written when the three are complete

The identity is made from the corpus files and the tokenizer, so another corpus never touches finished shards, and
the parts of a sharded `prepare` meet in one folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

FORMAT = 1
# where the document's tokens and its path end, counted from the shard's beginning; a hash of its package's name
DOCUMENT = np.dtype([("tokens_end", "<u8"), ("path_end", "<u8"), ("package", "<u8")])


class BadShard(ValueError):
    """Prepared data that cannot be used or written; the message says the path and what to do."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What one shard holds: file suffix -> length in bytes, and -> SHA-256."""

    documents: int
    tokens: int
    bytes: dict[str, int]
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    folder: str
    tokenizer: str  # digest
    dtype: str  # of a token
    shards: list[ShardEntry]

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= np.iinfo(np.uint16).max + 1 else np.uint32)


def shard_file(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number:05}.{suffix}"


def read_manifest(data: Path, split: str) -> Manifest:
    """Raises BadShard when there is none, or when it is not of this format."""
    path = data / f"{split}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        return Manifest(**fields | {"shards": [ShardEntry(**shard) for shard in fields["shards"]]})
    except FileNotFoundError as error:
        raise BadShard(f"{path} is missing: run `midfill-train prepare` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadShard(f"{path} cannot be read ({error}): run `midfill-train prepare` again") from error


def write_manifest(data: Path, split: str, manifest: Manifest) -> None:
    write_json(data / f"{split}.json", {"format": FORMAT} | asdict(manifest))


def read_entry(folder: Path, number: int) -> ShardEntry | None:
    """The entry of a finished shard whose files have the right length, else None."""
    try:
        entry = ShardEntry(**json.loads(shard_file(folder, number, "json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return None if damaged_file(folder, number, entry) else entry


def damaged_file(folder: Path, number: int, entry: ShardEntry) -> str | None:
    """What is wrong with the length of a file of the shard, if anything."""
    for suffix, length in entry.bytes.items():
        path = shard_file(folder, number, suffix)
        try:
            found = path.stat().st_size
        except OSError:
            return f"{path} is missing"
        if found != length:
            return f"{path} has {found:,} bytes instead of {length:,}"
    return None


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns the OSErrors of a full or broken disk into BadShard."""
    try:
        yield
    except OSError as error:
        raise BadShard(
            f"{folder} cannot be written ({error.strerror}): make room or give another --data, then run "
            "`midfill-train prepare` again; finished shards are kept, earlier data is unharmed"
        ) from error


def write_json(path: Path, content: object) -> None:
    """Replace `path` so that a crash leaves the old or the new content, and so that two may do it at once."""
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
