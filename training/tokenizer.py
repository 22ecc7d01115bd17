"""The tokenizer stage: train byte-level BPE on a sample of the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as BPETrainer

from inference_service.model.bpe import byte_of_character
from inference_service.model.tokenizer import SENTINELS, SPLIT_PATTERN, Tokenizer
from training.documents import COLLECT_MORE, BadDocuments, corpus_file, read_block, sample_blocks

SAMPLE_BYTES = 60_000_000  # of the train split; time and memory stay those of this sample for any corpus
_SMALLEST_VOCABULARY = 256 + len(SENTINELS)


def train_tokenizer(corpus: Path, vocab_size: int) -> Tokenizer:
    """Byte-level BPE with `vocab_size` ids in total, sentinels included, from the train split of `corpus`.

    A small corpus gives fewer ids. Equal corpora give equal tokenizers. Raises BadDocuments, or ValueError for a
    `vocab_size` that does not hold every byte.
    """
    if vocab_size < _SMALLEST_VOCABULARY:
        raise ValueError(f"a vocabulary of {vocab_size} cannot hold all bytes: --vocab-size {_SMALLEST_VOCABULARY}+")
    trainer = BPETrainer(models.BPE())
    trainer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer.train_from_iterator(
        sample_texts(corpus, "train", SAMPLE_BYTES),
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(SENTINELS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    characters = byte_of_character()
    by_id = sorted(trainer.get_vocab().items(), key=lambda item: item[1])
    return Tokenizer({bytes(characters[c] for c in token): rank for rank, (token, _) in enumerate(by_id)})


def sample_texts(corpus: Path, split: str, wanted: int) -> Iterator[str]:
    """Texts of about `wanted` bytes in all, spread evenly over the split. Raises BadDocuments when there are none."""
    empty = True
    for block in sample_blocks(corpus_file(corpus, split), wanted):
        for document, _ in read_block(block):
            empty = False
            yield document.text
    if empty:
        raise BadDocuments(f"{corpus / split}.jsonl holds no documents: {COLLECT_MORE[split]}")
