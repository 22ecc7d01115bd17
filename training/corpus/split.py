"""Which split a package belongs to: decided by its name alone, never by position."""

from __future__ import annotations

import hashlib

STANDARD_LIBRARY = "python-stdlib"
HELD_OUT_SHARE = 0.05
SPLITS = ("train", "heldout")


def split_of(package: str) -> str:
    """ "train" or "heldout", decided by the package's name alone, so it never changes between runs.

    The standard library is always trained on: every program uses it.
    """
    if package == STANDARD_LIBRARY:
        return "train"
    share = int.from_bytes(hashlib.sha256(package.lower().encode()).digest()[:4]) / 2**32
    return "heldout" if share < HELD_OUT_SHARE else "train"
