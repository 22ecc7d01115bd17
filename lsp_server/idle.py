"""What is done when nobody types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Idle:
    """Calls `action(uri)` once `delay_s` have passed since the last `touch`."""

    def __init__(self, delay_s: float, action: Callable[[str], None]) -> None:
        self._delay_s = delay_s
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def touch(self, uri: str) -> None:
        """Something happened in `uri`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._action, uri)
