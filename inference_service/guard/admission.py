"""Which work is taken: bounded in completions, in tokens, and by the wait that is to be expected."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

# Before anything is measured a fast machine is assumed, with the weight of a fifth of a second.
_FIRST_GUESS_PER_S = 5000.0
_FIRST_GUESS_S = 0.2
_HALF_LIFE_S = 10.0
_MOST_RETRY_S = 60
CHARS_PER_TOKEN = 3.0  # rather too few: a budget that is overrun is worse than one that is not used up


class Saturated(Exception):
    """No room now. `retry_after_s` is when, by the measured rate, there will be."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = max(1, min(_MOST_RETRY_S, math.ceil(retry_after_s)))


@dataclass(slots=True)
class Reservation:
    """Room for the completions of one request: `slots` of them at a time, tokens estimated."""

    slots: int
    prompt_tokens: int
    output_tokens: int
    waiting: bool = True


class DrainRate:
    """Units per second, of the seconds in which there was something to drain; the last ones weigh most."""

    def __init__(self, first_guess_per_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = _FIRST_GUESS_S
        self._units = first_guess_per_s * _FIRST_GUESS_S
        self._at = clock()

    @property
    def per_s(self) -> float:
        """Never zero: what has not moved for long drains slowly."""
        return max(self._units / self._seconds, 1e-3)

    def passed(self, busy: bool) -> None:
        """Time has passed up to now; `busy`: with something to drain."""
        now = self._clock()
        if busy:
            seconds = now - self._at
            keep = 0.5 ** (seconds / _HALF_LIFE_S)
            self._seconds = self._seconds * keep + seconds
            self._units *= keep
        self._at = now

    def drained(self, units: float) -> None:
        """So much is done."""
        self._units += units


class Admission:
    """Used from one event loop: `reserve` is atomic, all of a request or nothing of it."""

    def __init__(
        self, max_slots: int, max_tokens: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_slots, self._max_tokens, self._max_wait_s = max_slots, max_tokens, max_wait_s
        self.slots = 0
        self.tokens = 0
        self._waiting_tokens = 0
        self._prompts = DrainRate(_FIRST_GUESS_PER_S, clock)
        self._completions = DrainRate(_FIRST_GUESS_PER_S, clock)

    @property
    def predicted_wait_s(self) -> float:
        """Until the prompts that wait now are computed, seconds."""
        self._passed()
        return self._waiting_tokens / self._prompts.per_s

    def check(self, slots: int = 1) -> None:
        """Raise Saturated when there is no room for so many completions."""
        over = self.slots + slots - self._max_slots
        if over > 0:
            self._passed()
            raise Saturated("too many completions are running or waiting", over / self._completions.per_s)

    def reserve(self, slots: int, prompt_tokens: int, output_tokens: int, within_s: float | None = None) -> Reservation:
        """Take the room. `within_s`: seconds in which the first token would have to come.

        Raises Saturated, and then nothing is taken.
        """
        self.check(slots)
        wait = self.predicted_wait_s
        allowed = self._max_wait_s if within_s is None else min(within_s, self._max_wait_s)
        if self._waiting_tokens and wait > allowed:
            raise Saturated("those that wait already will take longer than this may wait", wait - allowed)
        over = self.tokens + prompt_tokens + output_tokens - self._max_tokens
        if self.tokens and over > 0:
            raise Saturated("too many tokens are being computed or waiting", over / self._prompts.per_s)
        self.slots += slots
        self.tokens += prompt_tokens + output_tokens
        self._waiting_tokens += prompt_tokens
        return Reservation(slots, prompt_tokens, output_tokens)

    def started(self, reservation: Reservation) -> None:
        """Its first token is there. More than one call is as one."""
        if reservation.waiting:
            self._passed()
            reservation.waiting = False
            self._waiting_tokens -= reservation.prompt_tokens
            self._prompts.drained(reservation.prompt_tokens)

    def release(self, reservation: Reservation) -> None:
        """It has ended, one way or another."""
        self._passed()
        if reservation.waiting:  # aborted: it has not been computed
            reservation.waiting = False
            self._waiting_tokens -= reservation.prompt_tokens
        self._completions.drained(reservation.slots)
        self.slots -= reservation.slots
        self.tokens -= reservation.prompt_tokens + reservation.output_tokens

    def _passed(self) -> None:
        self._prompts.passed(self._waiting_tokens > 0)
        self._completions.passed(self.slots > 0)


def estimated_tokens(chars: int, context_length: int) -> int:
    """Tokens of a prompt of `chars` characters; the engine cuts it to its context."""
    return min(math.ceil(chars / CHARS_PER_TOKEN) + 1, context_length)
