"""What a tokenizer is worth: bytes per token on held-out packages, beside well-known vocabularies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import tiktoken

from inference_service.model.tokenizer import Tokenizer
from training.tokenizer import sample_texts

REFERENCES = {"gpt2": "r50k_base", "cl100k": "cl100k_base"}  # tiktoken's names; r50k_base has the ids of GPT-2
_SAMPLE_BYTES = 20_000_000


def report(tokenizers: dict[str, Tokenizer], corpus: Path) -> str:
    """A table of bytes per token on the held-out split, or on 20 MB of it, first ours by name. Raises BadDocuments."""
    texts = list(sample_texts(corpus, "heldout", _SAMPLE_BYTES))
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    rows = [_row(name, size, tokenizer.vocab_size, tokenizer.encode, texts) for name, tokenizer in tokenizers.items()]
    for name, known_as in REFERENCES.items():
        known = _load(known_as)
        if isinstance(known, str):
            rows.append(f"| {name} | {known} | |")
        else:
            rows.append(_row(name, size, known.n_vocab, known.encode_ordinary, texts))
    head = ["| tokenizer | ids | bytes per token |", "|---|---|---|"]
    return "\n".join([f"{size / 1e6:.1f} MB of held-out code in {len(texts):,} files", "", *head, *rows])


def _row(name: str, size: int, ids: int, encode: Callable[[str], list[int]], texts: list[str]) -> str:
    return f"| {name} | {ids:,} | {size / sum(len(encode(text)) for text in texts):.2f} |"


def _load(name: str) -> tiktoken.Encoding | str:
    """tiktoken's encoding, or why there is none. Without a cache folder tiktoken would ask a server on the internet."""
    cache = os.environ.get("TIKTOKEN_CACHE_DIR")
    if not cache:
        return "not available: set TIKTOKEN_CACHE_DIR"
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # what requests raises is an OSError
        return f"not available: no ranks in {cache} ({type(error).__name__})"
