"""Whether the service has time for what nobody waits for yet."""

from __future__ import annotations

from collections.abc import Callable

BUSY_QUEUE_MS = 20.0
_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 60.0


class Load:
    """Follows what the service tells with each answer. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause_until = float("-inf")

    @property
    def free(self) -> bool:
        """Whether requests made in advance are welcome."""
        return self._clock() >= self._pause_until

    def queued(self, queue_ms: float) -> None:
        """A request waited that long for its turn: beyond 20 ms nothing is asked in advance for 10 s."""
        if queue_ms > BUSY_QUEUE_MS:
            self._pause(_PAUSE_S)

    def refused(self, retry_after_s: float | None) -> None:
        """The service sent somebody away (429 or 503), and may have said for how long."""
        self._pause(max(_PAUSE_S, min(retry_after_s or 0.0, _LONGEST_PAUSE_S)))

    def _pause(self, seconds: float) -> None:
        self._pause_until = max(self._pause_until, self._clock() + seconds)
