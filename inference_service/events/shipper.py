"""From the spool to the database, in a thread of its own, which also prunes and looks for new evaluations."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from inference_service.dependencies import Dependencies
from inference_service.events.archive import Archive
from inference_service.events.figures import UNKNOWN, Figures
from inference_service.events.records import from_line
from inference_service.events.spool import Spool
from inference_service.logs import log
from inference_service.storage.database import DatabaseFault

_CHORES_S = 10.0
_PRUNE_S = 3600.0
_LONGEST_WAIT_S = 5.0
_STEP_S = 60.0
_MOST_UNCOUNTED = 50_000
_DAY_S = 86_400.0


class Shipper:
    """Ships until `stop`. `retention_days` 0 keeps everything."""

    def __init__(
        self, spool: Spool, archive: Archive, figures: Figures, dependencies: Dependencies, retention_days: int
    ) -> None:
        self._spool = spool
        self._archive = archive
        self._figures = figures
        self._dependencies = dependencies
        self._retention_s = retention_days * _DAY_S
        self._uncounted: OrderedDict[str, None] = OrderedDict()
        self._chores_at = 0.0
        self._pruned_at = time.monotonic() - _PRUNE_S
        self._clock = time.time() - time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-shipper", daemon=True)
        self._thread.start()

    def count_later(self, event_id: str) -> None:
        """This event goes into the figures when it is shipped: the database may know its completion."""
        self._uncounted[event_id] = None
        if len(self._uncounted) > _MOST_UNCOUNTED:
            self._uncounted.popitem(last=False)

    def stop(self, within_s: float) -> None:
        """Ship what is complete, and end; what takes longer than `within_s` stays in the spool."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        wait_s = 1.0
        while True:
            segment = self._spool.next_segment(0.0 if self._stop.is_set() else 0.5)
            try:
                if segment is None:
                    if self._stop.is_set():
                        return
                    self._chores()
                    continue
                # A line that is no record was not written to its end, so nobody was told that it was accepted.
                with segment.open("rb") as lines:
                    rows = [row for line in lines if (row := from_line(line))]
                unusable = self._archive.store(rows)
                self._count(rows)
                self._spool.remove(segment)
                if unusable:
                    log("unusable records were left out", level=logging.WARNING, records=unusable)
            except DatabaseFault as error:
                self._dependencies.report("events", f"{error}; events are kept on disk until it is back")
                if self._stop.wait(wait_s):
                    return
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            except Exception as error:  # a disk that fails, a fault of ours: later, but never not at all
                log("events could not be shipped", level=logging.ERROR, exception=error)
                if self._stop.wait(_LONGEST_WAIT_S):
                    return
            else:
                wait_s = 1.0
                self._dependencies.report("events", None)

    def _count(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        late = [row for table, row in rows if table == "events" and row["id"] in self._uncounted]
        made = self._archive.find([(row["completion_id"], row["tenant"]) for row in late])
        for row in late:
            self._uncounted.pop(row["id"], None)
            completion = made.get((row["completion_id"], row["tenant"]), UNKNOWN)
            chars = row["accepted_chars"]
            self._figures.count(row["event"], completion, completion.chars if chars is None else chars)

    def _chores(self) -> None:
        now = time.monotonic()
        if now - self._chores_at < _CHORES_S and self._chores_at:
            return
        self._chores_at = now
        self._spool.adopt()
        self._figures.show(self._archive.latest_evaluations())
        if self._retention_s and now - self._pruned_at >= _PRUNE_S and not self._clock_stepped():
            self._archive.prune(time.time() - self._retention_s)
            self._pruned_at = now
        self._dependencies.report("events", None)

    def _clock_stepped(self) -> bool:
        """A clock that jumped must not delete what is young: it has to go evenly for an hour first."""
        before, self._clock = self._clock, time.time() - time.monotonic()
        stepped = abs(self._clock - before) > _STEP_S
        if stepped:
            self._pruned_at = time.monotonic()
            log("the clock was set; nothing is pruned for an hour", level=logging.WARNING)
        return stepped
