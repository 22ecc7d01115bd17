"""What the API tells of completions and of what became of them: counted, and where there is a database, kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TypeVar

from inference_service.events.figures import UNKNOWN, Figures, Made
from inference_service.events.records import Completion, Event, Record, Texts, to_line
from inference_service.events.shipper import Shipper
from inference_service.events.spool import Spool, SpoolFull

Value = TypeVar("Value")
_REMEMBERED = 20_000
_DISK_S = 2.0
_SHIP_S = 3.0


class NotAccepted(Exception):
    """The event could not be written down."""


class Journal:
    """Spool and shipper of one process; `keeps_texts` is the operator's opt-in to keep code."""

    def __init__(self, spool: Spool, shipper: Shipper, keeps_texts: bool) -> None:
        self.spool = spool
        self.shipper = shipper
        self.keeps_texts = keeps_texts

    def close(self) -> None:
        """Ship what there is, within some seconds; the rest is for the next process."""
        self.spool.close()
        self.shipper.stop(_SHIP_S)
        self.spool.release()


class EventLog:
    """Async context manager; used from one event loop. Without a journal events are counted and forgotten."""

    def __init__(self, figures: Figures, journal: Journal | None) -> None:
        self._figures = figures
        self._journal = journal
        self._recent: OrderedDict[tuple[str, str], Made] = OrderedDict()
        self._accepted: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def __aenter__(self) -> EventLog:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._journal:
            await asyncio.to_thread(self._journal.close)

    @property
    def keeps_texts(self) -> bool:
        """Whether `completed` wants the code."""
        return self._journal is not None and self._journal.keeps_texts

    def completed(self, completion: Completion, texts: Texts | None = None) -> None:
        """A completion has ended. Never waits, never raises: one that cannot be recorded is counted as dropped."""
        made = Made(completion.model_version, completion.language, completion.chars)
        _remember(self._recent, (completion.id, completion.tenant), made)
        if self._journal is None:
            return
        records: list[Record] = [completion]
        if texts is not None and self._journal.keeps_texts:
            records.append(texts)
        try:
            self._journal.spool.append(b"".join(map(to_line, records)))
        except SpoolFull:
            self._figures.dropped.inc()

    async def happened(self, event: Event) -> None:
        """Returns when the event is safe on disk (where there is a journal). Raises NotAccepted."""
        place = event.completion_id, event.tenant
        made = self._recent.get(place)
        if self._journal is not None:
            if made is None:  # another replica's completion, or one from before a restart
                self._journal.shipper.count_later(event.id)
            await self._write(self._journal.spool, to_line(event))
        if made is not None or self._journal is None:
            made = made or UNKNOWN
            chars = made.chars if event.accepted_chars is None else event.accepted_chars
            before = self._accepted.get(place, 0)
            if event.event in ("accepted", "partially_accepted"):
                _remember(self._accepted, place, max(before, chars))
            self._figures.count(event.event, made, max(0, chars - before))

    @staticmethod
    async def _write(spool: Spool, line: bytes) -> None:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[OSError | None] = loop.create_future()

        def tell(problem: OSError | None) -> None:
            if not written.done():
                written.set_result(problem)

        def done(problem: OSError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, problem)

        try:
            spool.append(line, done)
            async with asyncio.timeout(_DISK_S):
                problem = await written
        except (SpoolFull, TimeoutError) as error:
            raise NotAccepted(str(error) or "the disk of the event spool is too slow") from None
        if problem is not None:
            raise NotAccepted(f"the event spool cannot be written: {problem.strerror}")


def _remember(ring: OrderedDict[tuple[str, str], Value], place: tuple[str, str], value: Value) -> None:
    ring[place] = value
    ring.move_to_end(place)
    while len(ring) > _REMEMBERED:
        ring.popitem(last=False)
