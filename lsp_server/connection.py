"""The service that the settings name, the way to it, and whether it can be asked right now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from lsp_server.breaker import CircuitBreaker
from lsp_server.client import ServiceClient, ServiceFault
from lsp_server.local_service import STARTING, LocalService
from lsp_server.settings import LOCAL, Settings
from lsp_server.status import Status

log = logging.getLogger(__name__)

_WARM_S = 30.0


class Connection:
    """Follows the settings: a remote endpoint, or the local service as it comes and goes."""

    def __init__(self, status: Status, service_log: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.client: ServiceClient | None = None
        self._status = status
        self._service_log = service_log
        self._clock = clock
        self.breaker = CircuitBreaker(clock)
        self._local: LocalService | None = None
        self._opened_with: tuple[object, ...] | None = None
        self._settings = Settings()
        self._why_not = STARTING
        self._warmed_at = float("-inf")
        self._changed = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None

    def unavailable(self) -> str | None:
        """Why no request should be made now, or None."""
        return None if self.client is not None else self._why_not

    async def apply(self, settings: Settings) -> None:
        """Connect as `settings` say; nothing happens unless they differ from before in what matters here."""
        # Switched off, a connection may stay, but not a local service.
        needed = settings.enable or settings.endpoint != LOCAL
        wanted = (settings.endpoint, settings.token, settings.request_timeout_ms, needed)
        if wanted == self._opened_with:
            return
        # No await before the new client is in place: the next request may be the next message.
        client, local = self._release()
        self._opened_with = wanted
        self._settings = settings
        self._warmed_at = float("-inf")
        if settings.endpoint != LOCAL:
            self._point_at(settings.endpoint, settings.token)
        elif needed:
            self._local = LocalService(self._service_log, self._local_changed)
            self._local.start()
        else:
            self._why_not = "switched off"
        await self._end(client, local)

    async def close(self) -> None:
        """Let go of the service; a local one is stopped."""
        await self._end(*self._release())

    def _release(self) -> tuple[ServiceClient | None, LocalService | None]:
        released = self.client, self._local
        self.client = self._local = None
        return released

    @staticmethod
    async def _end(client: ServiceClient | None, local: LocalService | None) -> None:
        if client is not None:
            await client.close()
        if local is not None:
            await local.stop()

    async def until_settled(self, timeout_s: float) -> None:
        """Wait until requests can be made or certainly cannot, at most `timeout_s`; see `unavailable`."""
        deadline = self._clock() + timeout_s
        while self.client is None and self._why_not == STARTING and self._clock() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline - self._clock()):
                    await self._changed.wait()

    async def warm_up(self) -> None:
        """Have a connection open for the next request; at most every 30 s, silent on failure."""
        if self.client is None or self._clock() - self._warmed_at < _WARM_S:
            return
        self._warmed_at = self._clock()
        try:
            await self.client.warm_up()
        except ServiceFault as fault:
            log.debug("warm-up: %s", fault)

    def _point_at(self, base_url: str, token: str) -> None:
        self.breaker = CircuitBreaker(self._clock)
        self.client = ServiceClient(base_url, token, self._settings.request_timeout_ms)
        self._changed.set()
        self._status.set("Normal")

    def _local_changed(self, base_url: str | None, message: str, failed: bool) -> None:
        self._changed.set()
        if base_url is not None:
            self._point_at(base_url, token="")
            return
        gone, self.client = self.client, None
        if gone is not None:
            self._closing = asyncio.ensure_future(gone.close())
        self._why_not = message
        self._status.set("Error" if failed else "Normal", message)
