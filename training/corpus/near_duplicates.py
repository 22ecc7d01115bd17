"""Near-duplicates by MinHash and locality-sensitive hashing.

Broder 1997, "On the resemblance and containment of documents"; bands and rows as in Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import numpy as np
from datasketch import LeanMinHash, MinHash, MinHashLSH

from training.corpus.words import ngram_hashes

THRESHOLD = 0.85  # Jaccard similarity of the sets of shingles
SHINGLE_WORDS = 5
# 12 bands of 9 rows propose 96 % of the pairs at the threshold and 99.9 % of those at 0.9
BANDS, ROWS = 12, 9
PERMUTATIONS = BANDS * ROWS
_EMPTY = MinHash(PERMUTATIONS, hashfunc=int, scheme="affine32")


def signature(words: np.ndarray) -> np.ndarray:
    """MinHash of the 5-word shingles of a document: (108,) uint32, the same on every machine.

    words: (words,) uint32, from `word_hashes`. A document of fewer words is one shingle.
    """
    minhash = _EMPTY.copy()
    minhash.update_batch((ngram_hashes(words, min(SHINGLE_WORDS, len(words))) >> np.uint64(32)).tolist())
    return minhash.hashvalues


class NearDuplicates:
    """The documents kept so far. Takes about 5 kB of memory a document, whatever its length."""

    def __init__(self) -> None:
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
        self._kept: list[LeanMinHash] = []

    def is_new(self, signature: np.ndarray) -> bool:
        """Whether no kept document is as similar as THRESHOLD, by the estimate; a new one counts as kept from now."""
        minhash = LeanMinHash(seed=_EMPTY.seed, hashvalues=signature, scheme=_EMPTY.scheme)
        if any(minhash.jaccard(self._kept[key]) >= THRESHOLD for key in self._index.query(minhash)):
            return False
        self._index.insert(len(self._kept), minhash, check_duplication=False)
        self._kept.append(minhash)
        return True
