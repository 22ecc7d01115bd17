"""How long to wait for the next keystroke before a request is worth its cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SHORTEST_S = 0.01
LONGEST_S = 0.3
SLOW = 4
"""How many times longer the wait is for a service that is loaded, or slower than the typing."""
_SAME_KEY_S = 0.3  # Neovim asks 200 ms after the keystroke, VS Code 50 ms
_PAUSE_S = 1.0  # a longer gap says nothing about how fast somebody types
_WEIGHT = 0.2


class Rhythm:
    """How fast somebody types: a moving average of the gaps between keystrokes. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = float("-inf")
        self.gap_s: float | None = None

    def keystroke(self) -> None:
        """A character was typed, or something else was changed."""
        now = self._clock()
        gap, self._last = now - self._last, now
        if gap < _PAUSE_S:
            self.gap_s = gap if self.gap_s is None else self.gap_s + _WEIGHT * (gap - self.gap_s)


def pressed_at(changed: float, arrived: float) -> float:
    """When the key was hit that led to a request which arrived at `arrived`, for a document that was `changed` last at
    that time, in seconds of the same clock. Editors wait too before they ask."""
    return changed if 0 <= arrived - changed < _SAME_KEY_S else arrived


def delay_s(line_prefix: str, base_s: float, gap_s: float | None, misses: int, slow: bool) -> float:
    """Seconds without typing before a request is made; `base_s` is the setting, 0 means none.

    Nearly none at the start of a line, where the most is to be gained; less after a bracket or an operator than
    within a word; longer for somebody who types faster than it, after `misses` requests in a row on this line
    whose answers were not what was typed, and for a service that is `slow`.
    """
    if not base_s:
        return 0.0
    if not line_prefix.strip():
        return min(SHORTEST_S, base_s)
    if slow:
        base_s *= SLOW
    within_word = line_prefix[-1].isalnum() or line_prefix[-1] == "_"
    delay = base_s * (1.0 if within_word else 0.5) * (1 + 0.5 * misses)
    if gap_s is not None and within_word and gap_s < 2 * base_s:
        delay = max(delay, 1.2 * gap_s)
    return min(max(delay, SHORTEST_S), max(LONGEST_S, base_s))


class Debounce:
    """Waits until `delay_s` after a keystroke. `clock` returns seconds; `sleep` takes seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep

    async def wait(self, pressed: float, delay_s: float) -> None:
        """Return once `delay_s` have passed since `pressed`; time that the editor or we spent since counts."""
        remaining = pressed + delay_s - self._clock()
        if remaining > 0:
            await self._sleep(remaining)
