"""Ends a process that can help itself no more: a device that hangs, or an event loop that does not turn."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable

from inference_service.logs import log

EXIT_CODE = 70  # EX_SOFTWARE: whoever supervises the process starts it again


class Watchdog:
    """A thread of its own, because what it watches may hold everything else up.

    `stalled_s`, called on the event loop, is for how many seconds the engine has had work and made no step.
    """

    def __init__(self, stalled_s: Callable[[], float], limit_s: float, end: Callable[[int], None] = os._exit) -> None:
        self._stalled_s, self._limit_s, self._end = stalled_s, limit_s, end
        self._interval_s = min(1.0, limit_s / 4)
        self._turned = time.monotonic()
        self._stalled = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), name="midfill-watchdog", daemon=True).start()
        try:
            while True:
                self._turned = time.monotonic()
                self._stalled = self._stalled_s()
                await asyncio.sleep(self._interval_s)
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(self._interval_s):
            loop_s = time.monotonic() - self._turned
            if max(loop_s, self._stalled) > self._limit_s:
                log(
                    "nothing moves any more; ending the process",
                    level=logging.CRITICAL,
                    event_loop_s=round(loop_s, 1),
                    engine_s=round(self._stalled, 1),
                )
                self._end(EXIT_CODE)
                return
