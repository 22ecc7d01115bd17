"""The model that a neural one has to beat: n-grams of tokens with interpolated Kneser-Ney smoothing.

An n-gram is one 64-bit key, so the model is some sorted arrays. Lower orders count in how many contexts a token came,
not how often (Chen and Goodman 1999, section 2.7, with one discount for all).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75
BITS = 14  # of a token's id: vocabularies up to 16,384
Keys = NDArray[np.uint64]


class NGrams:
    """Counts of `tokens` (N,) up to `order` (at most 4)."""

    def __init__(self, tokens: NDArray[np.int64], order: int, vocab_size: int) -> None:
        if vocab_size > 1 << BITS or order > 64 // BITS:
            raise ValueError(f"keys of 64 bits hold {64 // BITS} tokens of {BITS} bits")
        self.order, self._vocab_size = order, vocab_size
        keys, counts = np.unique(_keys(tokens, order), return_counts=True)
        # from `order` down to 1: n-grams and their counts, contexts and the total and the kinds of what followed them
        self._orders = []
        for n in range(order, 0, -1):
            contexts, first, kinds = np.unique(keys >> np.uint64(BITS), return_index=True, return_counts=True)
            totals = np.add.reduceat(counts, first)
            self._orders.append((keys, counts, contexts, totals, kinds))
            if n > 1:  # of how many different tokens each shorter n-gram was seen after
                shorter = np.sort(keys & np.uint64((1 << BITS * (n - 1)) - 1))
                keys, counts = np.unique(shorter, return_counts=True)

    def probabilities(self, tokens: NDArray[np.int64], start: int) -> NDArray[np.float64]:
        """Of each token from `start` on, after those before it; `start` is at least `order` - 1."""
        found = np.full(len(tokens) - start, 1 / self._vocab_size)
        for n, (keys, counts, contexts, totals, kinds) in zip(
            range(1, self.order + 1), reversed(self._orders), strict=True
        ):
            grams = _keys(tokens, n)[start - n + 1 :]
            total, kind = (_look_up(contexts, values, grams >> np.uint64(BITS)) for values in (totals, kinds))
            count = _look_up(keys, counts, grams)
            seen = total > 0
            rest = found * DISCOUNT * kind
            found = np.where(seen, (np.maximum(count - DISCOUNT, 0) + rest) / np.maximum(total, 1), found)
        return found

    def likeliest(self, context: list[int]) -> int:
        """What came most often after the longest end of `context` that was seen before."""
        for n, (keys, counts, *_) in zip(range(self.order, 0, -1), self._orders, strict=True):
            base = 0
            for token in context[len(context) - n + 1 :]:
                base = base << BITS | token
            low, high = np.searchsorted(keys, np.array([base << BITS, (base + 1) << BITS], dtype=np.uint64))
            if high > low:
                return int(keys[low + counts[low:high].argmax()]) & ((1 << BITS) - 1)
        raise ValueError("there are no counts")


def _keys(tokens: NDArray[np.int64], n: int) -> Keys:
    """The key of each n-gram (N - n + 1,), its last token in the lowest bits."""
    length = len(tokens) - n + 1
    keys = np.zeros(length, dtype=np.uint64)
    for i in range(n):
        keys = keys << np.uint64(BITS) | tokens[i : i + length].astype(np.uint64)
    return keys


def _look_up(keys: Keys, values: NDArray[np.int64], wanted: Keys) -> NDArray[np.int64]:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
