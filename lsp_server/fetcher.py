"""Requests to the service, and what they say of its load."""

from __future__ import annotations

from lsp_server.answer_stream import Completion, OnText
from lsp_server.client import CompletionRequest
from lsp_server.connection import Connection
from lsp_server.faults import ServiceFault
from lsp_server.load import Load
from lsp_server.status import Status


class Fetcher:
    """`load` follows what the service tells with each answer."""

    def __init__(self, connection: Connection, status: Status, load: Load) -> None:
        self.load = load
        self._connection = connection
        self._status = status

    async def fetch(self, request: CompletionRequest, on_text: OnText) -> Completion:
        """For who waits: the status tells. Raises ServiceFault, also for what a newer request took the place of."""
        self._status.busy(+1)
        try:
            with self.load.timed():
                completion = await self._connection.complete(request, on_text)
        except ServiceFault as fault:
            if fault.status in (429, 503):
                self.load.refused(fault.retry_after_s)
            raise
        finally:
            self._status.busy(-1)
        if completion is None:
            raise ServiceFault("superseded by a newer request of this document")
        self.load.queued(completion.queue_ms)
        return completion

    async def fetch_quietly(self, request: CompletionRequest, on_text: OnText = lambda piece: None) -> Completion:
        """For what nobody waits for yet: a failure neither counts nor shows, it only ends such requests for a while."""
        client = self._connection.client
        assert client is not None
        try:
            completion = await client.complete(request, on_text)
        except ServiceFault as fault:
            self.load.refused(fault.retry_after_s)
            raise
        if completion is None:
            raise ServiceFault("superseded by a newer request of this document", lasting=False)
        self.load.queued(completion.queue_ms)
        return completion
