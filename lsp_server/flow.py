"""What the completer remembers of one document between two requests."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field

from lsp_server.client import ContextFile
from lsp_server.decision import missing_indentation, next_line, rest_of_line
from lsp_server.documents import Snapshot
from lsp_server.spot import Spot
from lsp_server.stream import Stream

_CLOSERS = re.compile(r"[)\]}\"'`]+")
_TAIL = 400
_MOST_AHEAD = 2


@dataclass(frozen=True)
class Shown:
    """A completion as it was handed to the editor last, and where."""

    completion_id: str
    spot: Spot
    text: str
    replaces: int
    finished: bool
    confidence: float | None


@dataclass
class Flow:
    """One open document. `context` and the suffix (that of the spot `suffix`) stay as they are within a burst of
    typing."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    waiter: asyncio.Task[object] | None = None
    stream: Stream | None = None
    ahead: list[Stream] = field(default_factory=list)
    shown: Shown | None = None
    request: Snapshot | None = None
    asked_at: float = float("-inf")
    changed_at: float = float("-inf")
    context: tuple[ContextFile, ...] | None = None
    suffix: Spot | None = None
    dwelling: asyncio.TimerHandle | None = None
    warming: asyncio.Task[object] | None = None
    misses: int = 0
    line: int = -1
    deepest: int = 0

    def stream_at(self, spot: Spot) -> Stream | None:
        """A stream that may still bring what comes at `spot`."""
        for stream in (self.stream, *self.ahead):
            if stream is not None and not stream.done:
                typed = stream.spot.typed_until(spot)
                if typed is not None and stream.agrees(typed):
                    return stream
        return None

    def abort(self, but: Stream | None = None) -> None:
        """End all streams but one."""
        for stream in (self.stream, *self.ahead):
            if stream is not None and stream is not but:
                stream.abort()
        if self.warming is not None:
            self.warming.cancel()
            self.warming = None
        self.stream = self.stream if self.stream is but else None
        self.ahead = [stream for stream in self.ahead if stream is but]

    def changed(self, source: str, now: float) -> None:
        """The document reads `source` since `now`: streams that cannot fit any more are aborted."""
        self.changed_at = now
        for stream in (self.stream, *self.ahead):
            if stream is not None and not stream.done and not stream.possible(source):
                stream.abort()
        self.ahead = [stream for stream in self.ahead if not stream.done]

    def ask_ahead(self, stream: Stream) -> None:
        """Keep a stream that was started in advance; the oldest goes when there are too many."""
        self.ahead = [*(other for other in self.ahead if not other.done), stream]
        while len(self.ahead) > _MOST_AHEAD:
            self.ahead.pop(0).abort()

    def rest(self) -> None:
        """What is displayed is not looked at any more."""
        if self.dwelling is not None:
            self.dwelling.cancel()
            self.dwelling = None

    def warm(self, fetch: Coroutine[object, object, object]) -> None:
        """Run a warm-up until it ends or somebody asks; its failure is nobody's concern."""
        if self.warming is not None:
            self.warming.cancel()
        self.warming = asyncio.ensure_future(fetch)
        self.warming.add_done_callback(lambda task: task.cancelled() or task.exception())

    def completed(self, spot: Spot) -> bool:
        """Whether `spot` is right after a completion that is in the document whole: taken, or typed."""
        shown = self.shown
        if shown is None or not shown.finished or spot.prefix_length != shown.spot.prefix_length + len(shown.text):
            return False
        return spot.prefix[-_TAIL:] == (shown.spot.prefix[-_TAIL:] + shown.text)[-_TAIL:]

    def stable_suffix(self, spot: Spot) -> str:
        """The suffix of `spot` as it is sent: without the brackets and quotes that the editor closed within this burst.

        In Midfill's prompt format the suffix stands before the prefix, so a changed suffix makes all of the prompt
        be computed again.
        """
        if self.suffix is None:
            self.suffix = spot
        closers = _CLOSERS.match(spot.suffix)
        added = spot.suffix_length - self.suffix.suffix_length
        rest, sent = spot.suffix[max(added, 0) :], self.suffix.suffix
        same = rest.startswith(sent) or sent.startswith(rest)
        if not same or not 0 <= added <= (closers.end() if closers else 0):
            self.suffix = spot
        return self.suffix.suffix

    def at_line(self, spot: Spot) -> None:
        """The cursor is on this line: count its misses, and how far to the right it has been in its indentation."""
        text = spot.prefix[spot.prefix.rfind("\n") + 1 :]
        line = spot.prefix_length - len(text)
        if line != self.line:
            self.line, self.misses, self.deepest = line, 0, 0
        if not text.strip():
            self.deepest = max(self.deepest, len(text))

    def lead(self, spot: Spot) -> str:
        """What is likely to be typed at `spot` before anything that is worth completing: the next line after a
        completion that was taken whole, or the indentation of an empty line. What was typed of an indentation and
        deleted again is not wanted."""
        if rest_of_line(spot.suffix):
            return ""
        if self.completed(spot):
            return next_line(spot.prefix) or ""
        text = spot.prefix[spot.prefix.rfind("\n") + 1 :]
        return missing_indentation(spot.prefix) if len(text) == self.deepest else ""
