"""Several services in order: the first that is not resting answers, and those that failed are looked after."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lsp_server.answer_stream import Completion, OnText
from lsp_server.breaker import FIRST_DELAY_S, CircuitBreaker
from lsp_server.client import CompletionRequest, ServiceClient
from lsp_server.faults import ServiceFault
from lsp_server.status import Status

log = logging.getLogger(__name__)

_MEASURED, _SLOW_S = 10, 3.0
# Faults that need a person; all others together are one outage.
_FOR_PEOPLE = {401, 403, 404, 429}


@dataclass(eq=False)
class Endpoint:
    """One service and how it has fared."""

    client: ServiceClient
    breaker: CircuitBreaker
    probe: asyncio.Task[None] | None = None
    is_gone: bool = False
    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MEASURED))

    @property
    def slow(self) -> str | None:
        """What to tell if the last answers took so long that ghost text comes too late, or None."""
        mean_s = sum(self.took_s) / max(1, len(self.took_s))
        if len(self.took_s) < _MEASURED or mean_s < _SLOW_S:
            return None
        return f"{self.client.base_url} is slow: the last {_MEASURED} answers took {mean_s:.1f} s on average"


class Endpoints:
    """Asks the services of `order()`, and says in `status` when an outage begins and when it is over."""

    def __init__(self, order: Callable[[], Sequence[Endpoint]], status: Status) -> None:
        self._order = order
        self._status = status
        self._outage: object = None

    def best(self) -> Endpoint | None:
        """The first that is not resting, else the first; None if there is none."""
        order = self._order()
        return next((endpoint for endpoint in order if not endpoint.breaker.is_open), order[0] if order else None)

    async def complete(self, request: CompletionRequest, on_text: OnText = lambda piece: None) -> Completion | None:
        """As ServiceClient.complete, by the first service that can. Raises ServiceFault: the first one's."""
        first: ServiceFault | None = None
        for endpoint in self._order():
            if not endpoint.breaker.allow():
                continue
            pieces = 0

            def receive(piece: str) -> bool | None:
                nonlocal pieces
                pieces += 1
                return on_text(piece)

            began = time.monotonic()
            try:
                completion = await endpoint.client.complete(request, receive)
            except ServiceFault as fault:
                log.warning("%s", fault)
                self._note(endpoint, fault)
                first = first or fault
                # Half an answer is out already, or the next service would refuse as well.
                if pieces or not fault.lasting:
                    break
                continue
            except BaseException:
                endpoint.breaker.abandoned()
                raise
            endpoint.breaker.success()
            endpoint.is_gone = False
            endpoint.took_s.append(time.monotonic() - began)
            self._answered(endpoint, first)
            return completion
        if first is None:
            waits = [endpoint.breaker.wait_s for endpoint in self._order()]
            raise ServiceFault(f"the service failed repeatedly; next attempt in {min(waits, default=0):.0f} s")
        self._failed(first)
        raise first

    async def warm_up(self) -> None:
        """Open a connection to the service that is asked next. That it cannot be reached is told now, not at the first
        key, and looked after."""
        endpoint = self.best()
        if endpoint is None or endpoint.is_gone:
            return
        try:
            await endpoint.client.warm_up()
        except ServiceFault as fault:
            log.debug("warm-up: %s", fault)
            order = self._order()
            if fault.unreachable and endpoint in order:  # the settings may have changed meanwhile
                self._note(endpoint, fault)
                if len(order) == 1:
                    self._failed(fault)

    def _note(self, endpoint: Endpoint, fault: ServiceFault) -> None:
        if not fault.lasting:
            endpoint.breaker.success()
            return
        endpoint.breaker.failure(fault.retry_after_s)
        endpoint.is_gone = fault.unreachable
        if fault.unreachable and (endpoint.probe is None or endpoint.probe.done()):
            endpoint.probe = asyncio.ensure_future(self._probe(endpoint))

    async def _probe(self, endpoint: Endpoint) -> None:
        """Ask again and again whether a service that could not be reached is back, so that no keystroke has to."""
        breaker = endpoint.breaker
        while endpoint.is_gone:
            await asyncio.sleep(max(breaker.wait_s, 0.05) if breaker.is_open else FIRST_DELAY_S)
            if not endpoint.is_gone or not breaker.allow():
                continue
            try:
                await endpoint.client.check_ready()
            except ServiceFault:
                breaker.failure()
                continue
            except BaseException:
                breaker.abandoned()
                raise
            breaker.success()
            endpoint.is_gone = False
            if self._order()[:1] == [endpoint]:
                self._answered(endpoint, None)

    def _answered(self, endpoint: Endpoint, fault: ServiceFault | None) -> None:
        order = self._order()
        if endpoint not in order:
            return  # the settings changed meanwhile
        if order[0] is endpoint:
            self._outage = None
            slow = endpoint.slow
            self._status.set("Warning" if slow else "Normal", slow or "")
        elif self._outage != endpoint:
            self._outage = endpoint
            gone = order[0].client.base_url
            self._status.set(
                "Warning", f"{fault or f'{gone} does not answer'}; {endpoint.client.base_url} does instead"
            )

    def _failed(self, fault: ServiceFault) -> None:
        kind = fault.status if fault.status in _FOR_PEOPLE else "down"
        if self._outage != kind and self._order():
            self._outage = kind
            self._status.set("Warning", str(fault))
