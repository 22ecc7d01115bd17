"""How long to wait for the next keystroke before a request is worth its cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Debounce:
    """Waits until `delay_s` after a request's arrival. `clock` returns seconds; `sleep` takes seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep

    async def wait(self, arrived: float, delay_s: float) -> None:
        """Return once `delay_s` have passed since `arrived`; time already spent on the request counts."""
        remaining = arrived + delay_s - self._clock()
        if remaining > 0:
            await self._sleep(remaining)
