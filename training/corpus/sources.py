"""What a source of documents is; the kinds are in `folders.py`, `checkouts.py` and `archives.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

MAX_PACKAGE_CHARS = 4_000_000  # of one package, so that a few giants do not set the tone


class NotUsable(ValueError):
    """A source that has to stay out; the message says why."""


class NoLicence(NotUsable):
    """A source of which no permissive licence is known."""


class Source(Protocol):
    """One package, checkout or folder, or a part of one. Sources travel to worker processes, so they hold no files.

    `sha256` is of an archive's bytes, or of `sha256sum`'s list of a folder's files. `max_chars` is how much is taken.
    `split` is the part of the corpus that it belongs to.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def max_chars(self) -> int | None: ...
    @property
    def split(self) -> str: ...

    def read(self, counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
        """Python files as (posix path, content); those it has to leave out are counted under `left out: <reason>`.

        Raises NotUsable when the source turns out to be broken.
        """
        ...

    def parts(self) -> Sequence[Source]:
        """This source cut into pieces of work, in their order."""
        ...
