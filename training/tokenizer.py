"""The tokenizer stage: train byte-level BPE on a sample of the corpus and write tiktoken ranks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as BPETrainer

from inference_service.model.tokenizer import SENTINELS, SPLIT_PATTERN, Tokenizer

SAMPLE_CHARS = 60_000_000


def read_documents(path: Path) -> Iterator[dict[str, str]]:
    """The documents (package, path, text) of one `<split>.jsonl`."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def train_tokenizer(corpus: Path, vocab_size: int, seed: int = 0) -> Tokenizer:
    """Byte-level BPE with `vocab_size` ids in total, sentinels included, from the train split of `corpus`."""
    share = min(1.0, SAMPLE_CHARS / (corpus / "train.jsonl").stat().st_size)
    choose = random.Random(seed)  # noqa: S311 - a sample, not a secret
    sample = (doc["text"] for doc in read_documents(corpus / "train.jsonl") if choose.random() < share)
    trainer = BPETrainer(models.BPE())
    trainer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer.train_from_iterator(
        sample,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(SENTINELS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    characters = _byte_of_character()
    by_id = sorted(trainer.get_vocab().items(), key=lambda item: item[1])
    return Tokenizer({bytes(characters[c] for c in token): rank for rank, (token, _) in enumerate(by_id)})


def _byte_of_character() -> dict[str, int]:
    """Which byte a character of GPT-2's printable alphabet stands for (Radford et al. 2019, encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
