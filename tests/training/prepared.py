"""A small corpus to prepare, and what came out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from inference_service.model.tokenizer import Tokenizer
from training.shards import open_split

BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)})


def write_corpus(folder: Path, documents: Iterable[tuple[str, str, str]], split: str = "train") -> Path:
    """`documents` are (package, path, text)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"package": package, "path": path, "text": text}) for package, path, text in documents]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def listed(data: Path, tokenizer: Tokenizer, split: str = "train") -> list[tuple[int, str, list[int]]]:
    """(package, path, tokens) of every document."""
    dataset = open_split(data, split, tokenizer)
    return [(dataset.package(n), dataset.path(n), dataset.document(n).tolist()) for n in range(len(dataset))]
