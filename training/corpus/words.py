"""Words of a document as numbers, for n-grams that are hashed in numpy rather than one by one."""

from __future__ import annotations

import re
import zlib

import numpy as np

_WORD = re.compile(rb"[\w\x80-\xff]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a word is lost modulo 2^64


def word_hashes(text: str) -> np.ndarray:
    """CRC-32 of each word (a run of letters, digits and underscores) in lower case: (words,) uint32."""
    return np.fromiter(map(zlib.crc32, _WORD.findall(text.lower().encode())), dtype=np.uint32)


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """A polynomial hash of each run of `n` words: (max(0, words - n + 1),) uint64; the high bits are the good ones."""
    count = max(0, len(words) - n + 1)
    grams = np.zeros(count, dtype=np.uint64)
    for offset in range(n if count else 0):
        grams = grams * _MULTIPLIER + words[offset : offset + count]
    return grams
