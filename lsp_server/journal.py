"""The last requests and what became of them: the answer to "why is nothing shown?". Holds no code."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

log = logging.getLogger(__name__)

LOG_MARK = "request: "
INSTEAD = "instead: "
"""Follows the mark where a line takes the place of the last one about that file."""


@dataclass(frozen=True)
class Record:
    """One request: seconds since the epoch, the file's bare name, milliseconds until the answer, outcome."""

    at: float
    name: str
    took_ms: float
    outcome: str


class Journal:
    """A ring of the last 50 records. `wall_clock` returns seconds since the epoch."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._records: deque[Record] = deque(maxlen=50)
        self.filters: Counter[str] = Counter()

    def note(self, path: str, took_s: float, outcome: str) -> None:
        """Remember an outcome: "shown …" or why nothing was."""
        self._keep(path, took_s, outcome)

    def correct(self, path: str, took_s: float, outcome: str) -> None:
        """Remember this instead of the last outcome noted for that file."""
        name = PurePosixPath(path).name
        last = next((record for record in reversed(self._records) if record.name == name), None)
        if last is not None:
            self._records.remove(last)
        self._keep(path, took_s, outcome, INSTEAD)

    def _keep(self, path: str, took_s: float, outcome: str, instead: str = "") -> None:
        record = Record(self._wall_clock(), PurePosixPath(path).name, took_s * 1000, outcome)
        self._records.append(record)
        # From here `midfill-lsp doctor` reads it, which is another process.
        log.info("%s%s%s: %s (%.0f ms)", LOG_MARK, instead, record.name, outcome, record.took_ms)

    def filtered(self, names: Iterable[str]) -> None:
        """These filters cut something from an answer."""
        self.filters.update(names)

    def records(self) -> list[Record]:
        """Oldest first."""
        return list(self._records)
