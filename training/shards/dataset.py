"""Reading a prepared split: memory-mapped, so that opening costs the same for any number of documents."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np

from inference_service.model.tokenizer import Tokenizer
from training.documents import COLLECT_MORE
from training.shards.layout import DOCUMENT, BadShard, Manifest, ShardEntry, damaged_file, read_manifest, shard_file

_CHECKED_WHEN_OPENED = 256 << 20  # bytes whose checksums take well under a second


class TokenDataset:
    """The documents of one split, numbered through all its shards in the order of the corpus."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        # all at once: what is open stays readable when a later `prepare` replaces the files
        self._shards = [_Shard(folder, n, entry, manifest.dtype) for n, entry in enumerate(manifest.shards)]
        self._first_document = [0, *accumulate(entry.documents for entry in manifest.shards)]
        self._first_token = [0, *accumulate(entry.tokens for entry in manifest.shards)]

    def __reduce__(self) -> tuple[type[TokenDataset], tuple[Path, Manifest]]:
        """Another process maps the files itself."""
        return TokenDataset, (self._folder, self._manifest)

    def __len__(self) -> int:
        return self._first_document[-1]

    @property
    def total_tokens(self) -> int:
        return self._first_token[-1]

    def document(self, index: int) -> np.ndarray:
        """Token ids (length,) of a document, a view of the file."""
        shard, number = self._locate(index)
        begin, end = shard.span("tokens_end", number)
        return shard.tokens[begin:end]

    def path(self, index: int) -> str:
        shard, number = self._locate(index)
        begin, end = shard.span("path_end", number)
        return shard.paths[begin:end].tobytes().decode("utf-8")

    def package(self, index: int) -> int:
        """A number that documents of the same package share."""
        shard, number = self._locate(index)
        return int(shard.documents["package"][number])

    def document_at(self, position: int) -> tuple[int, int]:
        """The document that holds token `position` of all tokens, and the token's offset in it."""
        n = bisect_right(self._first_token, position) - 1
        ends = self._shards[n].documents["tokens_end"]
        offset = position - self._first_token[n]
        number = bisect_right(ends, offset)
        return self._first_document[n] + number, offset - (int(ends[number - 1]) if number else 0)

    def verify(self) -> None:
        """Read everything and compare checksums. Raises BadShard with the path of the first damaged file."""
        for shard in self._shards:
            shard.verify()

    def _locate(self, index: int) -> tuple[_Shard, int]:
        n = bisect_right(self._first_document, index) - 1
        return self._shards[n], index - self._first_document[n]


class _Shard:
    def __init__(self, folder: Path, number: int, entry: ShardEntry, dtype: str) -> None:
        self._folder, self._number, self._entry = folder, number, entry
        self.tokens = self._map("tokens", np.dtype(dtype))
        self.documents = self._map("documents", DOCUMENT)
        self.paths = self._map("paths", np.dtype(np.uint8))

    def span(self, field: str, number: int) -> tuple[int, int]:
        ends = self.documents[field]
        return int(ends[number - 1]) if number else 0, int(ends[number])

    def verify(self) -> None:
        for suffix, expected in self._entry.sha256.items():
            path = shard_file(self._folder, self._number, suffix)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise BadShard(
                        f"{path} is damaged, its checksum differs: delete it and run `midfill-train prepare` again"
                    )

    def _map(self, suffix: str, dtype: np.dtype) -> np.ndarray:
        path = shard_file(self._folder, self._number, suffix)
        if not self._entry.bytes[suffix]:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        return np.asarray(np.memmap(path, dtype, mode="r"))


def load_tokenizer(data: Path) -> Tokenizer:
    """The tokenizer of a data folder. Raises BadShard when there is none, ValueError when it is damaged."""
    path = data / "tokenizer.tiktoken"
    if not path.exists():
        raise BadShard(f"{path} is missing: run `midfill-train tokenizer` first")
    return Tokenizer.load(path)


def open_split(data: Path, split: str, tokenizer: Tokenizer) -> TokenDataset:
    """Map a prepared split. Raises BadShard when it is missing, empty, damaged or of another tokenizer.

    Lengths of files are always checked, checksums only of a split below 256 MB; `verify_split` checks any.
    """
    folder, manifest = _checked_manifest(data, split, tokenizer)
    if not manifest.tokens:
        raise BadShard(f"{folder} holds no documents: {COLLECT_MORE[split]}, then run `midfill-train prepare` again")
    dataset = TokenDataset(folder, manifest)
    if sum(sum(entry.bytes.values()) for entry in manifest.shards) <= _CHECKED_WHEN_OPENED:
        dataset.verify()
    return dataset


def verify_split(data: Path, split: str, tokenizer: Tokenizer) -> int:
    """Read all of a prepared split and compare it with its checksums; returns its tokens. Raises BadShard."""
    folder, manifest = _checked_manifest(data, split, tokenizer)
    TokenDataset(folder, manifest).verify()
    return manifest.tokens


def _checked_manifest(data: Path, split: str, tokenizer: Tokenizer) -> tuple[Path, Manifest]:
    manifest = read_manifest(data, split)
    folder = data / manifest.folder
    if manifest.tokenizer != tokenizer.digest:
        raise BadShard(f"{folder} was prepared with another tokenizer: run `midfill-train prepare` again")
    for number, entry in enumerate(manifest.shards):
        if wrong := damaged_file(folder, number, entry):
            raise BadShard(f"{wrong}: run `midfill-train prepare` again")
    return folder, manifest
