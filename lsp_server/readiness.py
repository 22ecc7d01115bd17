"""What is done before anybody asks: the model's budget, the context of a document, its prompt in the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from lsp_server.client import ServiceClient
from lsp_server.completer import Completer
from lsp_server.connection import Connection
from lsp_server.context.budget import budget_for
from lsp_server.context.gatherer import Gatherer
from lsp_server.documents import file_of
from lsp_server.faults import ServiceFault
from lsp_server.logs import log_internal_error
from lsp_server.memory import trim
from lsp_server.settings import Settings

log = logging.getLogger(__name__)


class Readiness:
    """One document at a time: the one that was used last. `may_send(file)` says whether anything of a file may be sent
    at all."""

    def __init__(
        self,
        connection: Connection,
        gatherer: Gatherer,
        completer: Completer,
        settings_of: Callable[[str], Settings],
        may_send: Callable[[str], bool],
    ) -> None:
        self._connection = connection
        self._gatherer = gatherer
        self._completer = completer
        self._settings_of = settings_of
        self._may_send = may_send
        self._measured: ServiceClient | None = None
        self._length: int | None = None
        self._task: asyncio.Task[None] | None = None

    def ensure(self, uri: str) -> None:
        """Get ready for `uri` if the service is another than last time, unless it is to be left alone for a while."""
        if self._connection.client is not self._measured and not self._connection.breaker.wait_s:
            self.get_ready(uri)

    def get_ready(self, uri: str) -> None:
        """Prepare the context of a document and have the service compute its prompt, while nobody waits for it."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.ensure_future(self._get_ready(uri))

    async def _get_ready(self, uri: str) -> None:
        try:
            await self._prepare(uri)
            trim()
        except Exception:  # nobody waits for it, and completions work without
            log_internal_error(log)

    async def _prepare(self, uri: str) -> None:
        client, settings = self._connection.client, self._settings_of(uri)
        if client is not None and client is not self._measured:
            try:
                self._length = await client.context_length()
            except ServiceFault as fault:
                log.debug("the model's context length is not known: %s", fault)
                return
            self._measured = client
        if self._measured is not None:
            self._completer.budget = budget_for(self._length, settings.max_tokens)
            self._gatherer.budget_chars = self._completer.budget.context
        if settings.context_enable:
            await self._gatherer.prepare(uri)
        if self._may_send(file_of(uri)):
            self._completer.warm_up(uri)
