"""Training rows made on the fly: fill-in-the-middle, cross-file context, packing.

A row is a pure function of (seed, row number), so resuming, and any number of processes, see the same data.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from inference_service.model.fim import context_file, fim_head, plain_head
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from training.shards import Shard

_SHORTEST_SAMPLE = 64  # tokens; what is left of a row below that is cut from the next sample's beginning


@dataclass(frozen=True, slots=True)
class FimConfig:
    """Shares are probabilities per sample. A middle ends at a line's end or at any character."""

    fim_rate: float = 0.5
    line_end_share: float = 0.6
    path_share: float = 0.7
    context_share: float = 0.25


class RowSampler:
    """Builds rows of `length` token ids from a shard."""

    def __init__(self, shard: Shard, tokenizer: Tokenizer, length: int, config: FimConfig, seed: int) -> None:
        self._shard, self._tokenizer, self._length = shard, tokenizer, length
        self._config, self._seed = config, seed
        self._end = tokenizer.sentinel(END_OF_TEXT)
        self._starts = shard.starts.tolist()
        newline = [token for token, text in enumerate(tokenizer.vocabulary) if text.startswith((b"\n", b"\r\n"))]
        self._begins_line = np.zeros(tokenizer.vocab_size, dtype=bool)
        self._begins_line[newline] = True

    def row(self, number: int) -> list[int]:
        choose = random.Random(f"{self._seed}-{number}")  # noqa: S311 - data order, not a secret
        row: list[int] = []
        while len(row) < self._length:
            row += self._sample(choose, max(self._length - len(row), _SHORTEST_SAMPLE))
        return row[: self._length]

    def _sample(self, choose: random.Random, budget: int) -> list[int]:
        position = choose.randrange(self._starts[-1])
        document = bisect_right(self._starts, position) - 1
        path = self._shard.paths[document] if choose.random() < self._config.path_share else None
        context = self._context(choose, document, budget // 3) if path else []
        budget -= len(context)
        text, ends = self._window(document, position - self._starts[document], budget)
        if choose.random() < self._config.fim_rate:
            return context + self._fim(choose, text, path, budget)
        tokens = plain_head(self._tokenizer, path) + self._tokenizer.encode(text)
        return context + tokens + ([self._end] if ends else [])

    def _window(self, document: int, position: int, budget: int) -> tuple[str, bool]:
        """Text of at most `budget` tokens that begins at a line, and whether it reaches the file's end."""
        tokens = self._shard.document(document)
        begin = 0
        if len(tokens) > budget:
            line_begins = np.flatnonzero(self._begins_line[tokens[: position + 1]])
            begin = int(line_begins[-1]) if len(line_begins) else 0
        end = begin + budget
        return self._tokenizer.decode(tokens[begin:end].tolist()).lstrip("\r\n"), end >= len(tokens)

    def _context(self, choose: random.Random, document: int, budget: int) -> list[int]:
        """A neighbouring file of the same package, cut to `budget` tokens; often nothing."""
        packages = self._shard.packages
        other = document + choose.choice((-2, -1, 1, 2))
        if choose.random() > self._config.context_share or budget < _SHORTEST_SAMPLE:
            return []
        if not 0 <= other < len(packages) or packages[other] != packages[document]:
            return []
        text, _ = self._window(other, choose.randrange(len(self._shard.document(other)) or 1), budget)
        return context_file(self._tokenizer, self._shard.paths[other], text)[:budget]

    def _fim(self, choose: random.Random, text: str, path: str | None, budget: int) -> list[int]:
        """SPM variant 2. Prefix and middle are tokenized as one text: where the cursor stands is not visible,
        serving heals the token at the cursor instead."""
        cut = choose.randrange(len(text) + 1)
        if choose.random() < self._config.line_end_share:
            line_end = text.find("\n", cut)
            cut = line_end if line_end >= 0 else len(text)
        suffix = self._tokenizer.encode(text[cut:])[: choose.randrange(budget // 3 + 1)]
        head = fim_head(self._tokenizer, path, suffix)
        before = self._tokenizer.encode(text[:cut])
        room = max(budget - len(head) - 1, 1)
        return [*head, *before[-room:], self._end]
