"""Several completions for who asks by hand: the likeliest, and others to choose from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from lsp_server import gates
from lsp_server.answer_stream import Completion
from lsp_server.cache import Cached
from lsp_server.completer import Answer, Completer
from lsp_server.connection import Connection
from lsp_server.decision import rest_of_line
from lsp_server.documents import Snapshot
from lsp_server.faults import ServiceFault
from lsp_server.journal import Journal
from lsp_server.overlap import replaced_length
from lsp_server.settings import Settings
from lsp_server.spot import Spot

OTHERS = 2
OTHERS_S = 1.0
"""How long the first one waits for the others: an editor takes all that there are to cycle through at once."""


class Choices:
    """Asks for the others while the first is on its way, and only for who asks by hand: they cost as much again."""

    def __init__(
        self,
        connection: Connection,
        completer: Completer,
        journal: Journal,
        settings_of: Callable[[str], Settings],
    ) -> None:
        self._connection = connection
        self._completer = completer
        self._journal = journal
        self._settings_of = settings_of

    async def complete(
        self, request: Snapshot, arrived: float, text_now: Callable[[], str | None]
    ) -> tuple[Answer, ...]:
        """Up to three different completions, the likeliest first; none if there is nothing to show.

        A newer request of the same document cancels this one, as it does for `Completer.complete`.
        """
        asking = asyncio.ensure_future(self._others(request))
        try:
            first = await self._completer.complete(request, arrived, by_hand=True, text_now=text_now)
            with self._completer.waiting(request.uri):
                await asyncio.wait({asking}, timeout=OTHERS_S)
            source, others = text_now(), asking.result() if asking.done() else []
            typed = None if source is None else request.between(source)
            answers = () if typed is None else self._different(Spot(request, typed), first, others)
            if bool(answers) != (first is not None):  # what the completer noted of the first is not what is shown
                self._journal.correct(request.path, time.monotonic() - arrived, _outcome(answers))
            return answers
        finally:
            asking.cancel()

    async def _others(self, request: Snapshot) -> list[Cached]:
        client = self._connection.client
        if client is None or self._connection.breaker.wait_s or gates.closed(request, self._settings_of(request.uri)):
            return []
        flow = self._completer.flow(request.uri)
        spot = replace(Spot(request), lead=flow.lead(Spot(request)))
        asked = self._completer.request_for(flow, spot)
        try:
            texts = await client.alternatives(replace(asked, purpose="others"), OTHERS)
        except ServiceFault:
            return []  # the first one fares no better, and tells
        return [
            self._completer.filtered(spot, asked.mode, Completion(completion_id, text, "stop", None))
            for completion_id, text in texts
        ]

    def _different(self, now: Spot, first: Answer | None, others: list[Cached]) -> tuple[Answer, ...]:
        """What remains of them at `now`, each once."""
        known = self._completer.still_shown(now) if first is not None else None
        answers = [] if known is None else [known]
        for other in others:
            text = other.text[len(now.typed) :] if other.text.startswith(now.typed) and not other.reason else ""
            if not text or text in [answer.text for answer in answers]:
                continue
            if answers:
                # From where it parts with the first one it can be typed through, too.
                parts = 1 + _shared(answers[0].text, text)
                there = replace(now, typed=now.typed + text[:parts])
                self._completer.remember(there, replace(other, text=text[parts:]))
            replaces = replaced_length(text, rest_of_line(now.suffix))
            answers.append(Answer(other.completion_id, text, replaces))
        return tuple(answers)


def _outcome(answers: tuple[Answer, ...]) -> str:
    if not answers:
        return "the document was changed while the completions were on their way"
    return f"shown ({len(answers[0].text)} characters; not the likeliest, which was nothing)"


def _shared(one: str, other: str) -> int:
    """The length of what both begin with."""
    length = 0
    while one[: length + 1] == other[: length + 1] and length < min(len(one), len(other)):
        length += 1
    return length
