"""The way of one request, from the snapshot to what may be shown."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lsp_server import gates
from lsp_server.answer_stream import Completion, OnText
from lsp_server.cache import Cached, TypeThroughCache
from lsp_server.client import CompletionRequest, ContextFile
from lsp_server.connection import Connection
from lsp_server.context.budget import Budget
from lsp_server.debounce import Debounce, Rhythm, delay_s, pressed_at
from lsp_server.decision import mode_at, next_line, rest_of_line
from lsp_server.documents import Snapshot, window_prefix, window_suffix
from lsp_server.faults import ServiceFault
from lsp_server.fetcher import Fetcher
from lsp_server.flow import Flow, Shown
from lsp_server.journal import Journal
from lsp_server.load import Load
from lsp_server.overlap import replaced_length
from lsp_server.postprocess import is_settled, postprocess
from lsp_server.postprocess.place import Place
from lsp_server.settings import Settings
from lsp_server.spot import Spot
from lsp_server.status import Status
from lsp_server.stream import GRACE_S, Stream

log = logging.getLogger(__name__)

# How long a request that asked for another text may go on without having written any, before a new one is made.
PATIENCE_S = 0.2
# How long a completion is looked at before its sequel is asked for: who types through it does not need one.
DWELL_S = 0.25
SURE = 0.5  # a token; the sequel of a completion below that is rarely wanted
_SEEN_BY_FILTERS = 16_000
_COLD_S = 60.0  # after that a service may have forgotten a prompt
_AHEAD, _WARM = 10, 20  # priorities; 0 is for what somebody waits for


@dataclass(frozen=True)
class Answer:
    """What to show: `text` goes at the cursor and replaces `replaces` characters right of it."""

    completion_id: str
    text: str
    replaces: int


class Nothing(Exception):
    """There is nothing to show, and the message says why."""


class Completer:
    """Answers requests, the newest of each document only.

    `settings_of(uri)` returns the settings for a document, which may differ from folder to folder; `context(request)`
    parts of other files; both have to be quick. `clock` returns seconds.
    """

    def __init__(
        self,
        connection: Connection,
        status: Status,
        journal: Journal,
        clock: Callable[[], float],
        settings_of: Callable[[str], Settings],
        context: Callable[[Snapshot], tuple[ContextFile, ...]] = lambda request: (),
    ) -> None:
        self.budget = Budget()
        self._connection = connection
        self._journal = journal
        self._clock = clock
        self._settings_of = settings_of
        self._context = context
        self._debounce = Debounce(clock)
        self._rhythm = Rhythm(clock)
        self._cache = TypeThroughCache(clock)
        self._fetcher = Fetcher(connection, status, Load(clock))
        self._flows: dict[str, Flow] = {}
        self._shown_last: Flow | None = None

    def reconfigured(self) -> None:
        """The settings changed: what was cached under others, and known of the service, is forgotten."""
        self._cache.clear()
        self._fetcher.load = Load(self._clock)
        for flow in self._flows.values():
            flow.rest()
            flow.abort()
            flow.shown = flow.context = None

    def changed(self, uri: str, source: str) -> None:
        """The document reads `source` now: a stream that it contradicts is aborted at once."""
        self._rhythm.keystroke()
        flow = self._flows.get(uri)
        if flow is None:
            return
        flow.rest()
        flow.changed(source, self._clock())

    def closed(self, uri: str) -> None:
        """A document was closed: its request, if any, is cancelled."""
        flow = self._flows.pop(uri, None)
        if flow is not None:
            flow.rest()
            flow.abort()
            if flow.waiter is not None:
                flow.waiter.cancel()

    def flow(self, uri: str) -> Flow:
        """What is remembered of a document."""
        return self._flows.setdefault(uri, Flow())

    @contextmanager
    def waiting(self, uri: str) -> Iterator[None]:
        """A newer request of the document cancels the current task."""
        flow, task = self.flow(uri), asyncio.current_task()
        flow.waiter = task
        try:
            yield
        finally:
            if flow.waiter is task:
                flow.waiter = None

    def still_shown(self, now: Spot) -> Answer | None:
        """What remains at `now` of the completion that was handed over last."""
        shown = self.flow(now.request.uri).shown
        typed = None if shown is None else shown.spot.typed_until(now)
        if shown is None or typed is None or not shown.text.startswith(typed) or shown.text == typed:
            return None
        return Answer(shown.completion_id, shown.text[len(typed) :], shown.replaces)

    async def complete(
        self, request: Snapshot, arrived: float, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Answer | None:
        """The completion for `request`, which arrived at `arrived`; None if there is nothing to show.

        `text_now` returns the document's text at the time of the call, None if it is closed. An older request of the
        same document is cancelled, as is this one when a newer one comes (asyncio.CancelledError). What the older one
        asked the service goes on as long as it may be the answer to the newer one.
        """
        task = asyncio.current_task()
        assert task is not None
        flow = self.flow(request.uri)
        older, flow.waiter = flow.waiter, task
        if older is not None:
            older.cancel()
        try:
            answer = await self._answer(flow, request, arrived, by_hand, text_now)
            outcome = f"shown ({len(answer.text)} characters)"
        except Nothing as nothing:
            answer, outcome = None, str(nothing)
        except asyncio.CancelledError:
            self._journal.note(request.path, self._clock() - arrived, "cancelled, or replaced by a newer request")
            raise
        finally:
            if flow.waiter is task:
                flow.waiter = None
        self._journal.note(request.path, self._clock() - arrived, outcome)
        return answer

    async def _answer(
        self, flow: Flow, request: Snapshot, arrived: float, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Answer:
        reason = gates.closed(request, self._settings_of(request.uri))
        if reason:
            flow.abort()
            flow.request = None
            raise Nothing(reason)
        flow.request = request
        flow.at_line(Spot(request))
        cached = self._known(Spot(request), by_hand)
        if cached is None:
            cached = await self._follow(flow, request, by_hand, text_now)
        if cached is None:
            cached = await self._ask(flow, request, arrived, by_hand, text_now)
        spot = _now(request, text_now)
        # Shown, so from now on it may be typed through, however unsure the model was.
        if cached.confidence is not None and by_hand:
            self.remember(spot, _shown_by_hand(cached))
        replaces = replaced_length(cached.text, rest_of_line(request.suffix))
        self._shown_last = flow
        flow.shown = Shown(cached.completion_id, spot, cached.text, replaces, cached.finished, cached.confidence)
        return Answer(cached.completion_id, cached.text, replaces)

    def remember(self, spot: Spot, cached: Cached) -> None:
        """Keep what was found to be the completion at `spot`."""
        request = spot.request
        self._cache.put(request.uri, spot.prefix, spot.suffix, cached, request.above, request.below)

    def _recall(self, spot: Spot) -> Cached | None:
        request = spot.request
        return self._cache.get(request.uri, spot.prefix, spot.suffix, request.above, request.below)

    def _known(self, spot: Spot, by_hand: bool) -> Cached | None:
        """What the cache has to show here, None if nothing is known. Raises Nothing if it is known to be nothing."""
        cached = self._recall(spot)
        if cached is None:
            return None
        reason = cached.reason or (None if by_hand else self._unsure(spot.request.uri, cached))
        if not reason:
            return cached
        # What was typed since may have made the model surer, once it was more than a part of a word.
        surer = cached.typed and not cached.reason and not _within_word(spot.prefix, cached.text)
        if by_hand or surer:
            return None
        raise Nothing(reason)

    def _unsure(self, uri: str, cached: Cached) -> str | None:
        per_cent = self._settings_of(uri).min_confidence
        if cached.confidence is None or cached.confidence * 100 >= per_cent:
            return None
        return f"the model is not sure ({cached.confidence:.0%}, midfill.minConfidence is {per_cent})"

    async def _follow(
        self, flow: Flow, request: Snapshot, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Cached | None:
        """The rest of what a request in progress brings; None if there is none, or it went another way."""
        stream = flow.stream_at(Spot(request))
        flow.abort(but=stream)
        if stream is None:
            return None
        typed = stream.spot.typed_until(Spot(request)) or ""
        try:
            completion = await stream.wait(typed, PATIENCE_S if typed else None)
        except ServiceFault as fault:
            raise Nothing(str(fault)) from fault
        if completion is None:
            stream.abort()
            return None
        return self._known(_now(request, text_now), by_hand)

    async def _ask(
        self, flow: Flow, request: Snapshot, arrived: float, by_hand: bool, text_now: Callable[[], str | None]
    ) -> Cached:
        settings = self._settings_of(request.uri)
        reason = self._connection.unavailable() or (None if by_hand else gates.unwanted(request, settings))
        if reason:
            raise Nothing(reason)
        if not by_hand:
            line = request.prefix[request.prefix.rfind("\n") + 1 :]
            gap_s, load = self._rhythm.gap_s, self._fetcher.load
            slow = not load.free or (gap_s is not None and load.answer_s > gap_s)
            wait_s = delay_s(line, settings.debounce_ms / 1000, gap_s, flow.misses, slow)
            await self._debounce.wait(pressed_at(flow.changed_at, arrived), wait_s)
        if self._connection.client is None:
            raise Nothing(self._connection.unavailable() or "the service is gone")
        spot = _now(request, text_now)
        flow.abort()
        flow.misses += 1
        flow.stream = self._start(flow, replace(spot, lead=flow.lead(spot)))
        try:
            completion = await flow.stream.wait("", None)
        except ServiceFault as fault:
            raise Nothing(str(fault)) from fault
        now = _now(request, text_now)
        cached = None if completion is None else self._known(now, by_hand)
        if cached is None:
            found = self._recall(now)  # by hand also what is known to be nothing counts as unknown
            raise Nothing((found and found.reason) or "something else was typed while the completion was on its way")
        flow.misses = 0
        return cached

    def displayed(self, completion_id: str) -> None:
        """A completion is on display: once it was looked at for a moment, ask for what comes after it, at low
        priority, so that it is there after Tab.

        For a completion of several lines nothing more is needed after its first line: the others are in the cache.
        """
        flow = self._shown_last
        if flow is not None and flow.shown is not None and flow.shown.completion_id == completion_id:
            flow.rest()
            # Who types slowly is not looking yet.
            dwell_s = min(max(DWELL_S, 2 * (self._rhythm.gap_s or 0.0)), 1.0)
            flow.dwelling = asyncio.get_running_loop().call_later(dwell_s, self._ask_ahead, flow, flow.shown)

    def _ask_ahead(self, flow: Flow, shown: Shown) -> None:
        if not shown.finished or (shown.confidence is not None and shown.confidence < SURE):
            return  # what a filter cut off would only come again, and what is not right is not accepted
        request, text = shown.spot.request, shown.text
        spot = Spot(request, shown.spot.typed + text, shown.replaces, pending=len(text))
        lead = next_line(spot.prefix)
        if not self._may_ask_ahead(request.uri) or lead is None or rest_of_line(spot.suffix).strip():
            return
        if flow.stream_at(spot) or self._recall(spot):
            return
        flow.ask_ahead(self._start(flow, replace(spot, lead=lead), priority=_AHEAD))

    def warm_up(self, uri: str) -> None:
        """Have the service compute the prompt of this document, so that the first key finds it in its cache."""
        flow = self._flows.get(uri)
        if flow is None or flow.request is None or not self._may_ask_ahead(uri):
            return
        if gates.closed(flow.request, self._settings_of(uri)):
            return
        context = self._context(flow.request)
        if context == flow.context and self._clock() - flow.asked_at < _COLD_S:
            return
        flow.context, flow.asked_at = context, self._clock()
        asked = replace(self.request_for(flow, Spot(flow.request), _WARM), max_tokens=1)
        flow.warm(self._fetcher.fetch_quietly(asked))

    def _may_ask_ahead(self, uri: str) -> bool:
        connection, settings = self._connection, self._settings_of(uri)
        wanted = settings.enable and settings.ask_ahead
        return bool(wanted and connection.client and not connection.breaker.wait_s and self._fetcher.load.free)

    def _start(self, flow: Flow, spot: Spot, priority: int = 0) -> Stream:
        """A request to the service; when it ends, what it brought is in the cache."""
        flow.asked_at = self._clock()
        asked = self.request_for(flow, spot, priority)

        async def fetch(on_text: OnText) -> Completion:
            completion = await (self._fetcher.fetch_quietly if priority else self._fetcher.fetch)(asked, on_text)
            self.remember(spot, self.filtered(spot, asked.mode, completion))
            return completion

        place = self._place(spot, asked.mode)
        end = "\n" if asked.mode == "block" else ""  # of blocks the service sends whole lines
        return Stream(spot, fetch, GRACE_S, lambda text: is_settled(text + end, place))

    def request_for(self, flow: Flow, spot: Spot, priority: int = 0) -> CompletionRequest:
        """What the service is to be asked at `spot`."""
        request = spot.request
        if flow.context is None:
            flow.context = self._context(request)
        prefix, suffix, settings = spot.prefix + spot.lead, flow.stable_suffix(spot), self._settings_of(request.uri)
        wanted = "block" if spot.lead.startswith("\n") and settings.mode == "auto" else settings.mode
        return CompletionRequest(
            prefix=window_prefix(request.cells_above + prefix, self.budget.prefix, request.above),
            suffix=window_suffix(suffix + request.cells_below, self.budget.suffix),
            path=request.path,
            language=request.language,
            mode=mode_at(prefix, spot.suffix, wanted, request.language),
            max_tokens=settings.max_tokens,
            session=flow.session,
            context=flow.context,
            priority=priority,
            purpose={0: "", _AHEAD: "ahead", _WARM: "warm"}[priority],
        )

    def filtered(self, spot: Spot, mode: str, completion: Completion) -> Cached:
        """What may be shown of an answer."""
        filtered = postprocess(completion.text, self._place(spot, mode))
        self._journal.filtered(filtered.changed_by)
        text = filtered.text
        reason = f"nothing left of the answer: {filtered.dropped_by}" if filtered.dropped_by else ""
        finished = completion.finish_reason == "stop" and text == completion.text.rstrip()
        # What is not shown is remembered too: whoever goes on typing it need not ask for it again.
        text = spot.lead + (text or completion.text)
        return Cached(completion.completion_id, text, completion.confidence, finished, reason)

    def _place(self, spot: Spot, mode: str) -> Place:
        request = spot.request
        # Filters look around the cursor, not at all of a large file.
        prefix, suffix = (spot.prefix + spot.lead)[-_SEEN_BY_FILTERS:], spot.suffix[:_SEEN_BY_FILTERS]
        return Place(prefix, suffix, mode, self._settings_of(request.uri).max_lines, request.language)


def _now(request: Snapshot, text_now: Callable[[], str | None]) -> Spot:
    """The cursor by now: after what was typed since. Raises Nothing if the document changed in any other way."""
    source = text_now()
    typed = None if source is None else request.between(source)
    if typed is None:
        raise Nothing("the document was changed while the completion was on its way")
    return Spot(request, typed)


def _within_word(prefix: str, rest: str) -> bool:
    return bool(re.search(r"\w\Z", prefix) and re.match(r"\w", rest))


def _shown_by_hand(cached: Cached) -> Cached:
    return Cached(cached.completion_id, cached.text, None, cached.finished)
