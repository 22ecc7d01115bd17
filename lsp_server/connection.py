"""The services that the settings name, the way to them, and whether they can be asked right now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from lsp_server.answer_stream import Completion, OnText
from lsp_server.breaker import THRESHOLD, CircuitBreaker
from lsp_server.client import CompletionRequest, ServiceClient
from lsp_server.endpoints import Endpoint, Endpoints
from lsp_server.faults import ServiceFault
from lsp_server.local_service import STARTING, LocalService, LocalState
from lsp_server.network import Network, NetworkSettingsError
from lsp_server.settings import LOCAL, Settings
from lsp_server.status import Status
from lsp_server.tokens import Tokens

log = logging.getLogger(__name__)

_WARM_S = 30.0


class Connection:
    """Follows the settings: remote endpoints, or the local service as it comes and goes.

    `starting` is told True when the local service begins to start and False when that has come to an end.
    """

    def __init__(
        self,
        status: Status,
        service_log: Path,
        clock: Callable[[], float] = time.monotonic,
        starting: Callable[[bool], None] = lambda begins: None,
    ) -> None:
        self._status = status
        self._service_log = service_log
        self._clock = clock
        self._starting = starting
        self._endpoints = Endpoints(self._order, status)
        self._remote: list[Endpoint] = []
        self._here: Endpoint | None = None
        self._local: LocalService | None = None
        self._opened_with: tuple[object, ...] | None = None
        self._settings = Settings()
        self._why_not = STARTING
        self._warmed_at = float("-inf")
        self._changed = asyncio.Event()
        self._closing: set[asyncio.Future[None]] = set()

    @property
    def client(self) -> ServiceClient | None:
        """The service that is asked next; None while there is none."""
        best = self._endpoints.best()
        return None if best is None else best.client

    @property
    def breaker(self) -> CircuitBreaker:
        """Of that service."""
        best = self._endpoints.best()
        return CircuitBreaker(self._clock) if best is None else best.breaker

    @property
    def clients(self) -> list[ServiceClient]:
        """All services, in the order in which they are asked."""
        return [endpoint.client for endpoint in self._order()]

    def unavailable(self) -> str | None:
        """Why no request should be made now, or None."""
        return None if self._order() else self._why_not

    async def complete(self, request: CompletionRequest, on_text: OnText = lambda piece: None) -> Completion | None:
        """As ServiceClient.complete, by the first service that can; the status follows. Raises ServiceFault."""
        if not self._order():
            raise ServiceFault(self._why_not, lasting=False)
        return await self._endpoints.complete(request, on_text)

    async def apply(self, settings: Settings) -> None:
        """Connect as `settings` say; nothing happens unless they differ from before in what matters here."""
        # Switched off, a connection may stay, but not a local service.
        needed = settings.enable or settings.endpoint != LOCAL
        wanted = (
            settings.endpoint, settings.fallback_endpoints, settings.token, settings.token_file, settings.token_command,
            settings.request_timeout_ms, settings.redact_secrets, settings.local_idle_minutes, Network.of(settings),
            needed,
        )  # fmt: skip
        if wanted == self._opened_with:
            return
        # No await before the new clients are in place: the next request may be the next message.
        released, local = self._release()
        self._opened_with = wanted
        self._settings = settings
        self._warmed_at = float("-inf")
        self._endpoints = Endpoints(self._order, self._status)
        try:
            self._connect(needed)
        except NetworkSettingsError as error:
            self._why_not = str(error)
            log.warning("%s", error)
            self._status.set("Error", str(error))
        self._changed.set()
        await self._end(released, local)

    def _connect(self, needed: bool) -> None:
        settings = self._settings
        urls = list(settings.fallback_endpoints)
        if settings.endpoint != LOCAL:
            urls.insert(0, settings.endpoint)
        tokens = Tokens(settings)
        alone = len(urls) + (settings.endpoint == LOCAL) == 1
        self._remote = [self._endpoint(url, tokens, alone) for url in urls]
        if settings.endpoint != LOCAL:
            self._status.set("Normal")
        elif needed:
            self._local = LocalService(self._service_log, self._local_changed, settings.local_idle_minutes * 60)
            self._local.start()
        else:
            self._why_not = "switched off"

    async def close(self) -> None:
        """Let go of the services; a local one is stopped when no other editor uses it."""
        await self._end(*self._release())
        await asyncio.gather(*self._closing)

    def _order(self) -> list[Endpoint]:
        return [*([self._here] if self._here else []), *self._remote]

    def _endpoint(self, base_url: str, tokens: Tokens, alone: bool) -> Endpoint:
        client = ServiceClient(
            base_url,
            tokens,
            self._settings.request_timeout_ms,
            Network.of(self._settings),
            self._settings.redact_secrets,
        )
        return Endpoint(client, CircuitBreaker(self._clock, THRESHOLD if alone else 1))

    def _release(self) -> tuple[list[Endpoint], LocalService | None]:
        released = self._order(), self._local
        self._remote, self._here, self._local = [], None, None
        return released

    @staticmethod
    async def _end(endpoints: list[Endpoint], local: LocalService | None) -> None:
        for endpoint in endpoints:
            if endpoint.probe is not None:
                endpoint.probe.cancel()
            await endpoint.client.close()
        if local is not None:
            await local.stop()

    async def until_settled(self, timeout_s: float) -> None:
        """Wait until requests can be made or certainly cannot, at most `timeout_s`; see `unavailable`."""
        deadline = self._clock() + timeout_s
        while not self._order() and self._why_not == STARTING and self._clock() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline - self._clock()):
                    await self._changed.wait()

    async def warm_up(self) -> None:
        """Have a connection open for the next request; at most every 30 s."""
        if self.client is not None and self._clock() - self._warmed_at >= _WARM_S:
            self._warmed_at = self._clock()
            await self._endpoints.warm_up()

    def _local_changed(self, state: LocalState) -> None:
        self._changed.set()
        self._starting(state.message == STARTING)
        gone, self._here = self._here, None
        if gone is not None:
            closing = asyncio.ensure_future(self._end([gone], None))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if state.base_url is not None:
            self._here = self._endpoint(state.base_url, Tokens.fixed(state.token), alone=not self._remote)
            self._status.set("Normal")
            return
        self._why_not = state.message
        self._status.set("Error" if state.failed else "Normal", state.message)
