"""Token healing: the cursor often stands inside a word that the tokenizer would not have cut there.

The prompt backs up to the last boundary that any continuation keeps, and the first tokens are constrained to
spell the removed bytes again (JetBrains FLCC, arXiv 2405.08704, section 3; guidance's "token healing").
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from inference_service.model.tokenizer import Tokenizer

_LONGEST = 32  # bytes; a longer run is no word that somebody is typing


class Vocabulary:
    """Which tokens begin with given bytes, or are a beginning of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._by_bytes = {text: token for token, text in enumerate(tokenizer.vocabulary) if text}
        self._sorted = sorted(self._by_bytes)
        self._ids = np.array([self._by_bytes[text] for text in self._sorted], dtype=np.int64)

    def continuing(self, typed: bytes) -> np.ndarray:
        """Ids (int64) of all tokens that can come next when `typed` has to be spelled first. Never empty."""
        first = bisect_left(self._sorted, typed)
        last = bisect_left(self._sorted, typed + b"\xff" * 8, lo=first)
        longer = self._ids[first:last]
        shorter = [self._by_bytes[typed[:n]] for n in range(1, len(typed)) if typed[:n] in self._by_bytes]
        return np.concatenate([longer, np.array(shorter, dtype=np.int64)])


def split_for_healing(tokenizer: Tokenizer, tokens: list[int]) -> tuple[list[int], bytes]:
    """Cut the last word off encoded text: (tokens to prefill, bytes to spell again).

    A line break with its indentation stays where every continuation keeps that boundary. With most tokenizers the
    next word takes the last blank of the indentation, which therefore goes too.
    """
    removed = b""
    kept = len(tokens)
    while kept:
        text = tokenizer.token_bytes(tokens[kept - 1])
        if len(text) + len(removed) > _LONGEST:
            break
        joined = (text + removed).decode("utf-8", "replace")
        if b"\n" in text and _ends_a_piece(tokenizer, text.decode("utf-8", "replace"), joined + "x"):
            break
        if removed and len(tokenizer.words(joined)) > 1:
            break
        removed = text + removed
        kept -= 1
    return tokens[:kept], removed


def _ends_a_piece(tokenizer: Tokenizer, beginning: str, text: str) -> bool:
    """Whether `text` is split right after its `beginning`."""
    length = 0
    for word in tokenizer.words(text):
        length += len(word)
        if length >= len(beginning):
            break
    return length == len(beginning)
