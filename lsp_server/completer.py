"""The way of one request, from the snapshot to what may be shown."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from lsp_server import gates
from lsp_server.cache import Cached, TypeThroughCache
from lsp_server.client import Completion, CompletionRequest, ServiceClient, ServiceFault
from lsp_server.connection import Connection
from lsp_server.debounce import Debounce
from lsp_server.documents import Snapshot, typed_since, window_prefix, window_suffix
from lsp_server.journal import Journal
from lsp_server.overlap import replaced_length
from lsp_server.postprocess import postprocess
from lsp_server.postprocess.place import Place
from lsp_server.settings import Settings
from lsp_server.status import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What to show: `text` goes at the cursor and replaces `replaces` characters right of it."""

    completion_id: str
    text: str
    replaces: int


class Nothing(Exception):
    """There is nothing to show, and the message says why."""


class Completer:
    """Answers requests, the newest of each document only. `clock` returns seconds."""

    def __init__(self, connection: Connection, status: Status, journal: Journal, clock: Callable[[], float]) -> None:
        self.settings = Settings()
        self._connection = connection
        self._status = status
        self._journal = journal
        self._clock = clock
        self._debounce = Debounce(clock)
        self._cache = TypeThroughCache(clock)
        self._running: dict[str, asyncio.Task[object]] = {}
        self._sessions: dict[str, str] = {}

    def configure(self, settings: Settings) -> None:
        """Use `settings` from the next request on; what was cached under others is forgotten."""
        self.settings = settings
        self._cache.clear()

    def closed(self, uri: str) -> None:
        """A document was closed: its request, if any, is cancelled."""
        self._sessions.pop(uri, None)
        task = self._running.pop(uri, None)
        if task is not None:
            task.cancel()

    async def complete(
        self, request: Snapshot, arrived: float, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Answer | None:
        """The completion for `request`, which arrived at `arrived`; None if there is nothing to show.

        `text_now` returns the document's text at the time of the call, None if it is closed. An older request
        of the same document is cancelled with its HTTP request, as is this one when a newer one comes
        (asyncio.CancelledError).
        """
        task = asyncio.current_task()
        assert task is not None
        older = self._running.get(request.uri)
        if older is not None:
            older.cancel()
        self._running[request.uri] = task
        try:
            answer = await self._answer(request, arrived, by_hand, text_now)
            outcome = f"shown ({len(answer.text)} characters)"
        except Nothing as nothing:
            answer, outcome = None, str(nothing)
        except asyncio.CancelledError:
            self._journal.note(request.path, self._clock() - arrived, "cancelled, or replaced by a newer request")
            raise
        finally:
            if self._running.get(request.uri) is task:
                del self._running[request.uri]
        self._journal.note(request.path, self._clock() - arrived, outcome)
        return answer

    async def _answer(
        self, request: Snapshot, arrived: float, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Answer:
        reason = gates.closed(request, self.settings)
        if reason:
            raise Nothing(reason)
        prefix, suffix = request.prefix, request.suffix
        cached = self._cache.get(request.uri, prefix, suffix)
        if cached is None:
            cached = await self._ask(request, prefix, suffix, arrived, by_hand)
        return self._fit(cached, request, suffix, text_now())

    async def _ask(self, request: Snapshot, prefix: str, suffix: str, arrived: float, by_hand: bool) -> Cached:
        reason = self._connection.unavailable() or (None if by_hand else gates.unwanted(request))
        if reason:
            raise Nothing(reason)
        if not by_hand:
            await self._debounce.wait(arrived, self.settings.debounce_ms / 1000)
        client = self._connection.client
        if client is None:
            raise Nothing(self._connection.unavailable() or "the service is gone")
        mode = gates.mode_at(prefix, suffix, self.settings.mode)
        completion = await self._fetch(
            client,
            CompletionRequest(
                prefix=window_prefix(prefix),
                suffix=window_suffix(suffix),
                path=request.path,
                language=request.language,
                mode=mode,
                max_tokens=self.settings.max_tokens,
                session=self._sessions.setdefault(request.uri, uuid.uuid4().hex),
            ),
        )
        if not by_hand:
            _require_confidence(completion, self.settings.min_confidence)
        text, dropped_by = postprocess(completion.text, Place(prefix, suffix, mode, self.settings.max_lines))
        if dropped_by:
            raise Nothing(f"nothing left of the answer: {dropped_by}")
        cached = Cached(completion.completion_id, text)
        self._cache.put(request.uri, prefix, suffix, cached)
        return cached

    async def _fetch(self, client: ServiceClient, request: CompletionRequest) -> Completion:
        breaker = self._connection.breaker
        if not breaker.allow():
            raise Nothing(f"the service failed repeatedly; next attempt in {breaker.wait_s:.0f} s")
        self._status.busy(+1)
        try:
            completion = await client.complete(request)
        except ServiceFault as fault:
            if fault.lasting:
                breaker.failure(fault.retry_after_s)
            else:
                breaker.success()
            log.warning("%s", fault)
            if client is self._connection.client:
                self._status.set("Warning", str(fault))
            raise Nothing(str(fault)) from fault
        except asyncio.CancelledError:
            breaker.abandoned()
            raise
        finally:
            self._status.busy(-1)
        breaker.success()
        if client is self._connection.client:
            self._status.set("Normal")
        if completion is None:
            raise Nothing("superseded by a newer request of this document")
        return completion

    def _fit(self, cached: Cached, request: Snapshot, suffix: str, source: str | None) -> Answer:
        """The part of the completion that is still to come, given what the document is by now."""
        typed = None if source is None else typed_since(request, source)
        if typed is None:
            raise Nothing("the document was changed while the completion was on its way")
        if not cached.text.startswith(typed) or cached.text == typed:
            raise Nothing("something else was typed while the completion was on its way")
        text = cached.text[len(typed) :]
        return Answer(cached.completion_id, text, replaced_length(text, gates.rest_of_line(suffix)))


def _require_confidence(completion: Completion, per_cent: int) -> None:
    confidence = completion.confidence
    if confidence is not None and confidence * 100 < per_cent:
        raise Nothing(f"the model is not sure ({confidence:.0%}, midfill.minConfidence is {per_cent})")
