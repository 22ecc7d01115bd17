"""When to keep quiet: snoozed, on battery, too short, or too early to be shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from lsp_server.power import Power
from lsp_server.settings import Settings


class Quiet:
    """Per editor session. `clock` returns seconds; `changed` is called when a snooze begins or ends."""

    def __init__(
        self,
        clock: Callable[[], float],
        changed: Callable[[], None],
        power: Power,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._power = power
        self._sleep = sleep
        self._snoozed_until = float("-inf")
        self._waking: asyncio.TimerHandle | None = None
        self._shown: dict[str, str] = {}

    def snooze(self, minutes: float) -> None:
        """No completions for so long, not counting those asked by hand; 0 ends it."""
        if self._waking is not None:
            self._waking.cancel()
        self._snoozed_until = self._clock() + minutes * 60
        self._waking = asyncio.get_running_loop().call_later(minutes * 60, self._changed) if minutes else None
        self._changed()

    def paused(self, settings: Settings) -> str | None:
        """Why nothing is shown anywhere at present, or None."""
        left = self._snoozed_until - self._clock()
        if left > 0:
            until = time.strftime("%H:%M", time.localtime(time.time() + left))
            return f"snoozed until {until} (midfill.snooze 0 ends it)"
        if settings.pause_on_battery and self._power.on_battery():
            return "the computer runs on battery (midfill.pauseOnBattery)"
        return None

    async def hold(self, uri: str, completion_id: str, text: str, arrived: float, settings: Settings) -> str | None:
        """Wait until a new completion may be shown; why it may not be, or None. One that is on display already
        goes on at once and down to its last character."""
        if self._shown.get(uri) == completion_id:
            return None
        if len(text.strip()) < settings.min_characters:
            return f"shorter than {settings.min_characters} characters (midfill.minCharacters)"
        remaining = arrived + settings.show_delay_ms / 1000 - self._clock()
        if remaining > 0:
            await self._sleep(remaining)
        return None

    def shown(self, uri: str, completion_id: str) -> None:
        """This completion is on display in that document; "" is none."""
        self._shown[uri] = completion_id

    def closed(self, uri: str) -> None:
        """Forget a document."""
        self._shown.pop(uri, None)
