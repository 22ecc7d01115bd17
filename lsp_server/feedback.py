"""What became of completions, reported to the service: ids and counts, never code.

Clients that say so themselves are believed. For the others it is inferred from the edits: a completion that arrives in
one edit was accepted, its beginning accepted in part, and one that is not continued was dismissed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lsp_server.client import ServiceClient
from lsp_server.documents import Snapshot
from lsp_server.faults import ServiceFault

log = logging.getLogger(__name__)

_REMEMBERED = 256
SEEN_S = 0.2
"""A completion that stays unchanged that long was seen."""
PERSISTED_S = 30.0


@dataclass
class _Offer:
    """A completion as it was handed over last, after `given` had been typed since `request`: `text` is what was not
    typed yet, `typed` what has been since."""

    completion_id: str
    request: Snapshot
    given: str
    text: str
    replaces: int
    typed: str = ""


@dataclass
class _Told:
    """What was reported of a completion, and which document it was for. Of its `length` characters `taken` were
    accepted, `before` of them when the rest of it was handed over last."""

    uri: str = ""
    shown: bool = False
    ended: bool = False
    length: int = 0
    taken: int = 0
    before: int = 0


class Feedback:
    """Fire and forget: a report that fails is dropped. `client` returns the present client, or None; `text_of` the
    text of an open document, or None; `wanted` whether the settings for a document allow reports."""

    def __init__(
        self,
        client: Callable[[], ServiceClient | None],
        text_of: Callable[[str], str | None],
        wanted: Callable[[str], bool],
        persisted_s: float = PERSISTED_S,
    ) -> None:
        self.client_tells = False
        self._client = client
        self._text_of = text_of
        self._wanted = wanted
        self._persisted_s = persisted_s
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._offer: _Offer | None = None
        self._seen: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def offered(self, completion_id: str, request: Snapshot, given: str, text: str, replaces: int) -> None:
        """`text` was handed to the editor last, at the cursor of `request` after `given` was typed there."""
        told = self._of(completion_id)
        if told is not None:
            told.uri, told.length = request.uri, max(told.length, len(text))
            told.before = min(told.taken, told.length - len(text))
        offer = self._offer
        if offer is not None and offer.completion_id != completion_id and offer.request.uri == request.uri:
            self._dismissed(offer)
        self._offer = _Offer(completion_id, request, given, text, replaces)
        if not self.client_tells:
            self._cancel_seen()
            self._seen = asyncio.get_running_loop().call_later(SEEN_S, self._show, completion_id)

    def changed(self, uri: str, source: str) -> None:
        """A document reads `source` now: what that says about the completion on offer there."""
        offer = self._offer
        if offer is None or offer.request.uri != uri:
            return
        self._cancel_seen()
        if offer.replaces and offer.request.between(source, offer.replaces) == offer.given + offer.text:
            self._taken(offer, len(offer.text))
            return
        since = offer.request.between(source)
        typed = since[len(offer.given) :] if since is not None and since.startswith(offer.given) else None
        if typed is None or not offer.text.startswith(_without_closers(typed, offer.text)):
            self._dismissed(offer)
            self._offer = None
            return
        added, offer.typed = len(typed) - len(offer.typed), typed
        if added > 1:
            self._taken(offer, len(typed))

    def shown(self, completion_id: str) -> None:
        """The editor displayed it. What is typed through is displayed again and again, but reported once."""
        self.client_tells = True
        self._cancel_seen()
        self._show(completion_id)

    def accepted(self, completion_id: str) -> None:
        """The user took all that was offered."""
        self.client_tells = True
        offer = self._offer
        self._accept(completion_id, offer if offer and offer.completion_id == completion_id else None)

    def partially_accepted(self, completion_id: str, characters: int | None) -> None:
        """The user took the first `characters` (UTF-16 units, as LSP counts) of what was handed over last."""
        self.client_tells = True
        self._accept_part(completion_id, characters)

    def _taken(self, offer: _Offer, characters: int) -> None:
        """That many characters of it are in the document, the last of them by one edit."""
        if self.client_tells:
            return
        self._show(offer.completion_id)
        if characters == len(offer.text):
            self._accept(offer.completion_id, offer)
        else:
            self._accept_part(offer.completion_id, characters)

    def _show(self, completion_id: str) -> None:
        told = self._of(completion_id)
        if told is not None and not told.shown:
            told.shown = True
            self._report(completion_id, "shown")

    def _accept_part(self, completion_id: str, characters: int | None) -> None:
        """Reports grow: the largest of them is how much of the completion was accepted."""
        told = self._of(completion_id)
        if told is not None and characters is not None:
            characters = told.taken = max(told.taken, told.before + characters)
        self._report(completion_id, "partially_accepted", characters)

    def _accept(self, completion_id: str, offer: _Offer | None) -> None:
        told = self._of(completion_id)
        if told is None or told.ended:
            return
        told.ended = True
        self._report(completion_id, "accepted", told.before + len(offer.text) if offer else None)
        if offer is not None:
            self._offer = None
            # Not the offer itself, which holds the text around it.
            uri, text = offer.request.uri, offer.text
            asyncio.get_running_loop().call_later(self._persisted_s, self._check_persisted, completion_id, uri, text)

    def _dismissed(self, offer: _Offer) -> None:
        """Something else was typed. What was never seen, taken in part or typed to its end was not dismissed."""
        told = self._of(offer.completion_id)
        if told is None or told.ended or not told.shown or offer.typed:
            return
        told.ended = True
        self._report(offer.completion_id, "dismissed")

    def _check_persisted(self, completion_id: str, uri: str, text: str) -> None:
        """Report if at least half of its lines are still there."""
        source = self._text_of(uri)
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if source is not None and 2 * sum(line in source for line in lines) >= len(lines):
            self._report(completion_id, "persisted", len(text))

    def _cancel_seen(self) -> None:
        if self._seen is not None:
            self._seen.cancel()
            self._seen = None

    def _of(self, completion_id: str) -> _Told | None:
        """What was told of a completion so far; None without an id."""
        if not completion_id:
            return None
        told = self._told.setdefault(completion_id, _Told())
        self._told.move_to_end(completion_id)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return told

    def _report(self, completion_id: str, event: str, characters: int | None = None) -> None:
        client = self._client()
        told = self._of(completion_id)
        if client is None or told is None or not self._wanted(told.uri):
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


def _without_closers(typed: str, text: str) -> str:
    """`typed` without the brackets and quotes that an editor closed by itself."""
    return typed if text.startswith(typed) else typed.rstrip(")]}\"'`")
