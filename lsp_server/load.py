"""How much the service can take: whether it has time for what nobody waits for yet, and how fast it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BUSY_QUEUE_MS = 20.0
_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 60.0
_WEIGHT = 0.2


class Load:
    """Follows what the service tells with each answer. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause_until = float("-inf")
        self.answer_s = 0.0

    @property
    def free(self) -> bool:
        """Whether requests made in advance are welcome."""
        return self._clock() >= self._pause_until

    def queued(self, queue_ms: float) -> None:
        """A request waited that long for its turn: beyond 20 ms nothing is asked in advance for 10 s."""
        if queue_ms > BUSY_QUEUE_MS:
            self._pause(_PAUSE_S)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Follow how long answers take, `answer_s`. One that was given up would have taken at least as long."""
        began = self._clock()
        try:
            yield
        except asyncio.CancelledError:
            self._took(max(self._clock() - began, self.answer_s))
            raise
        self._took(self._clock() - began)

    def _took(self, seconds: float) -> None:
        self.answer_s += _WEIGHT * (seconds - self.answer_s)

    def refused(self, retry_after_s: float | None) -> None:
        """The service sent somebody away (429 or 503), and may have said for how long."""
        self._pause(max(_PAUSE_S, min(retry_after_s or 0.0, _LONGEST_PAUSE_S)))

    def _pause(self, seconds: float) -> None:
        self._pause_until = max(self._pause_until, self._clock() + seconds)
