"""numba's decorator for the CPU step, and where what it compiles is kept.

numba looks at the file that a function is in to tell whether its compiled form is still good, but compiles the
functions that are called, of other files, into it. So each state of all these files has a folder of its own: after an
update nothing is mixed with what was compiled before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import numba

_UNUSED_S = 30 * 86400.0
_HERE = Path(__file__).parent


def cache_folder() -> Path:
    """The user's folder for what can be computed again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "midfill"


def compiled_folder(sources: Path = _HERE) -> Path:
    """Where functions of `sources`, as they are now, are kept: in $NUMBA_CACHE_DIR, beside them, or in the user's."""
    digest = hashlib.sha256()
    for file in sorted(sources.glob("*.py")):
        digest.update(file.read_bytes())
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        base = Path(given)
    else:
        base = sources / "__pycache__" if os.access(sources, os.W_OK) else cache_folder() / "numba"
    return base / f"step-{digest.hexdigest()[:16]}"


def sweep(used: Path) -> None:
    """Remove what other states of the sources left beside the folder `used` a month ago."""
    for other in used.parent.glob("step-" + 16 * "[0-9a-f]"):  # a given folder may hold somebody's step-1000, too
        try:
            unused = other != used and time.time() - other.stat().st_mtime > _UNUSED_S
        except OSError:  # somebody else was faster
            continue
        if unused:
            shutil.rmtree(other, ignore_errors=True)


_folder = compiled_folder()
sweep(_folder)
numba.config.CACHE_DIR = str(_folder)  # type: ignore[attr-defined]
shared = numba.njit(cache=True, nogil=True)
"""For what threads do to each other."""
compiled = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
"""For arithmetic: sums may be taken in any order, and 1 / 0 is no error."""
