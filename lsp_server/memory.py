"""How glibc gives memory back. Elsewhere these do nothing."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import linecache
import sys

_M_MMAP_THRESHOLD = -3
_LARGE = 128 * 1024


def give_back_large_blocks() -> None:
    """Return each block of 128 KiB or more to the system as soon as it is free.

    By default glibc stops doing so after the first few, and each copy of a large file that is edited leaves a hole:
    10 MB for one of 50,000 lines.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def settle() -> None:
    """Once everything is imported: switch the garbage collector on, which __main__ switched off, for what comes now.

    What the imports left behind, the sources of generated methods above all, makes room for httpx: 6 MB. What stays
    for good is not looked through again: that would hold up a keystroke now and then.
    """
    linecache.clearcache()
    gc.collect()
    gc.freeze()
    gc.enable()
    trim()


def trim() -> None:
    """Return what is free by now, a few milliseconds' work."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
