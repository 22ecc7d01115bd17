"""The prepare stage: documents -> one memory-mapped token file a split, with an index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference_service.model.tokenizer import Tokenizer
from training.tokenizer import read_documents


class BadShard(ValueError):
    """A shard that cannot be used; the message says the path and what to do."""


@dataclass(frozen=True)
class Shard:
    """Tokens of all documents end to end (uint16), where each begins, its package number and its path."""

    tokens: np.ndarray
    starts: np.ndarray  # (documents + 1,) int64
    packages: np.ndarray  # (documents,) int32
    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def document(self, index: int) -> np.ndarray:
        return self.tokens[self.starts[index] : self.starts[index + 1]]


def prepare(corpus: Path, split: str, tokenizer: Tokenizer, out: Path) -> int:
    """Tokenize `<split>.jsonl` into `<split>.bin` and `<split>.index.npz`; returns the number of tokens."""
    if tokenizer.vocab_size > np.iinfo(np.uint16).max + 1:
        raise BadShard(
            f"a vocabulary of {tokenizer.vocab_size} does not fit 16 bits a token: train a smaller tokenizer"
        )
    out.mkdir(parents=True, exist_ok=True)
    starts, packages, paths = [0], [], []
    names: dict[str, int] = {}
    with (out / f"{split}.bin.partial").open("wb") as file:
        for doc in read_documents(corpus / f"{split}.jsonl"):
            tokens = np.array(tokenizer.encode(doc["text"]), dtype=np.uint16)
            file.write(tokens.tobytes())
            starts.append(starts[-1] + len(tokens))
            packages.append(names.setdefault(doc["package"], len(names)))
            paths.append(doc["path"])
    np.savez(
        out / f"{split}.index.npz",
        starts=np.array(starts, dtype=np.int64),
        packages=np.array(packages, dtype=np.int32),
        meta=np.frombuffer(json.dumps({"paths": paths, "tokenizer": tokenizer.digest}).encode(), dtype=np.uint8),
    )
    (out / f"{split}.bin.partial").replace(out / f"{split}.bin")
    return starts[-1]


def open_shard(folder: Path, split: str, tokenizer: Tokenizer) -> Shard:
    """Map a prepared split. Raises BadShard when it is missing, truncated or of another tokenizer."""
    data, index = folder / f"{split}.bin", folder / f"{split}.index.npz"
    try:
        with np.load(index, allow_pickle=False) as loaded:
            starts, packages, meta = loaded["starts"], loaded["packages"], json.loads(bytes(loaded["meta"]))
        tokens = np.memmap(data, dtype=np.uint16, mode="r")
    except FileNotFoundError as error:
        raise BadShard(f"{error.filename} is missing: run `midfill-train prepare` first") from error
    except (OSError, ValueError, KeyError) as error:
        raise BadShard(f"{index} cannot be read ({error}): run `midfill-train prepare` again") from error
    if len(tokens) != starts[-1]:
        raise BadShard(
            f"{data} holds {len(tokens)} tokens, its index says {starts[-1]}: run `midfill-train prepare` again"
        )
    if meta["tokenizer"] != tokenizer.digest:
        raise BadShard(f"{data} was prepared with another tokenizer: run `midfill-train prepare` again")
    return Shard(tokens, starts, packages, meta["paths"])
