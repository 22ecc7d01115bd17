"""Guesses of the next tokens, verified by the model in the same step that would compute one token anyway.

Prompt lookup (Saxena 2023): code repeats itself, so what followed the last tokens earlier in the prompt is likely to
follow again. The verification compares each guess with the token that is sampled in its place: the text is the same
with and without guesses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NGRAM = 4  # tokens that must repeat before what followed them is guessed
LONGEST = 3  # tokens; on a CPU each costs a third of a step
PATIENCE = 0.35  # guessing stops for a request when less than this share comes true
_MEMORY = 0.75  # weight of the past in the running share


class PromptLookup:
    """The guesses for one sequence."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = np.array(tokens, dtype=np.int64)
        self._count = len(tokens)
        self._share = 1.0

    def propose(self, tokens: Sequence[int]) -> list[int]:
        """What followed the latest earlier place where the last tokens of `tokens` stood; often nothing.

        `tokens` are those of the last call, or of the construction, and more.
        """
        self._append(tokens)
        count = self._count
        if self._share < PATIENCE or count <= NGRAM:
            return []
        seen = self._tokens[:count]
        places = np.ones(count - NGRAM, dtype=bool)
        for i in range(NGRAM):
            places &= seen[i : count - NGRAM + i] == seen[count - NGRAM + i]
        found = np.flatnonzero(places)
        if not len(found):
            return []
        start = int(found[-1]) + NGRAM
        return [int(token) for token in seen[start : start + LONGEST]]

    def verified(self, guessed: int, right: int) -> None:
        """Of `guessed` tokens, `right` came true."""
        self._share = _MEMORY * self._share + (1 - _MEMORY) * right / guessed

    def _append(self, tokens: Sequence[int]) -> None:
        if len(tokens) > len(self._tokens):
            self._tokens = np.concatenate([self._tokens[: self._count], np.zeros(len(tokens), dtype=np.int64)])
        self._tokens[self._count : len(tokens)] = tokens[self._count :]
        self._count = len(tokens)
