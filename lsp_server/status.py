"""The one line of state that every editor shows: `didChangeStatus {busy, message, kind}`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["Normal", "Warning", "Error", "Inactive"]

BUSY_S = 0.5
"""Requests that are answered sooner are not told: a sign that turns at each key only distracts."""


class Status:
    """Sends the state through `send` whenever it changes, and only then."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._requests = 0
        self._busy = False
        self._becoming_busy: asyncio.TimerHandle | None = None
        self._kind: Kind = "Normal"
        self._message = ""
        self._inactive = ""
        self._sent: dict[str, Any] | None = None

    @property
    def message(self) -> str:
        """The sentence last set; empty when all is well."""
        return self._message

    def set(self, kind: Kind, message: str = "") -> None:
        """Change kind and message."""
        self._kind, self._message = kind, message
        self._publish()

    def pause(self, reason: str | None) -> None:
        """Nothing is shown at present, for this reason, which has nothing to do with the service; None ends it."""
        if (reason or "") != self._inactive:
            self._inactive = reason or ""
            self._publish()

    def busy(self, change: int) -> None:
        """Count requests to the service: +1 when one begins, -1 when it ends."""
        self._requests += change
        if self._requests and self._becoming_busy is None:
            self._becoming_busy = asyncio.get_running_loop().call_later(BUSY_S, self._set_busy, True)
        elif not self._requests and self._becoming_busy is not None:
            self._becoming_busy.cancel()
            self._becoming_busy = None
            self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        self._busy = busy
        self._publish()

    def _publish(self) -> None:
        state = {"busy": self._busy, "message": self._message, "kind": self._kind}
        if self._inactive:
            state |= {"message": self._inactive, "kind": "Inactive"}
        if state != self._sent:
            self._sent = state
            self._send(state)
