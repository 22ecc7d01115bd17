"""What became of completions, reported to the service: ids and counts, never code."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from lsp_server.client import ServiceClient, ServiceFault

log = logging.getLogger(__name__)

_REMEMBERED = 256
T = TypeVar("T")


class Feedback:
    """Fire and forget: a report that fails is dropped. `client` returns the present client, or None."""

    def __init__(self, client: Callable[[], ServiceClient | None]) -> None:
        self._client = client
        self._shown: OrderedDict[str, None] = OrderedDict()
        self._offered: OrderedDict[str, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def offered(self, completion_id: str, characters: int) -> None:
        """This much of the completion was handed to the editor last; the rest had been typed."""
        _remember(self._offered, completion_id, characters)

    def shown(self, completion_id: str) -> None:
        """The editor displayed it. What is typed through is displayed again and again, but reported once."""
        if completion_id in self._shown:
            return
        _remember(self._shown, completion_id, None)
        self._report(completion_id, "shown")

    def accepted(self, completion_id: str) -> None:
        """The user took all that was offered."""
        self._report(completion_id, "accepted", self._offered.get(completion_id))

    def partially_accepted(self, completion_id: str, characters: int | None) -> None:
        """The user took its first `characters` (UTF-16 units, as LSP counts)."""
        self._report(completion_id, "partially_accepted", characters)

    def _report(self, completion_id: str, event: str, characters: int | None = None) -> None:
        client = self._client()
        if client is None or not completion_id:
            return
        task = asyncio.ensure_future(self._post(client, completion_id, event, characters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _post(client: ServiceClient, completion_id: str, event: str, characters: int | None) -> None:
        try:
            await client.post_event(completion_id, event, characters)
        except ServiceFault as fault:
            log.debug("an event was not reported: %s", fault)


def _remember(ring: OrderedDict[str, T], completion_id: str, value: T) -> None:
    ring[completion_id] = value
    ring.move_to_end(completion_id)
    while len(ring) > _REMEMBERED:
        ring.popitem(last=False)
