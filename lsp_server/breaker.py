"""A circuit breaker: a service that fails is left alone for a while, not asked at each keystroke."""

from __future__ import annotations

import random
from collections.abc import Callable

THRESHOLD = 3
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0


class CircuitBreaker:
    """Closed; after `threshold` failures in a row open for 1 s, 2 s, 4 s … 30 s; then one probe decides.

    Each delay is up to a quarter longer or shorter, so that a team's editors do not come back all at once.
    `clock` returns seconds, `chance` a number from 0 to 1.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        threshold: int = THRESHOLD,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._chance = chance
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    def allow(self) -> bool:
        """Whether a request may be made now. Each True must be followed by success, failure or abandoned."""
        if self._open_until is None:
            return True
        if self._probing or self._clock() < self._open_until:
            return False
        self._probing = True
        return True

    def success(self) -> None:
        """The service answered."""
        self._failures = 0
        self._open_until = None
        self._probing = False

    def failure(self, retry_after_s: float | None = None) -> None:
        """The service did not answer, or said when to come back (`retry_after_s`), which is respected."""
        self._failures += 1
        self._probing = False
        delay = 0.0
        if self._failures >= self._threshold:
            doublings = min(self._failures - self._threshold, 10)
            delay = min(FIRST_DELAY_S * 2.0**doublings, LONGEST_DELAY_S) * (0.75 + 0.5 * self._chance())
        if retry_after_s is not None:
            delay = max(delay, min(retry_after_s, LONGEST_DELAY_S))
        if delay:
            self._open_until = self._clock() + delay

    def abandoned(self) -> None:
        """The request was cancelled: nothing was learnt, and another may probe."""
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests are refused, or the next one is a probe."""
        return self._open_until is not None

    @property
    def wait_s(self) -> float:
        """Seconds until the next request is allowed; 0 when closed or due."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())
