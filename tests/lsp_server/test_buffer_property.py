"""Whatever is typed, deleted, undone, accepted and answered late: the buffer is what was meant.

A model of an editor and a service that answers when it is told to, around the server's own document mirror, completer
and answers. What must hold: the mirror reads as the editor's buffer does; a completion on display belongs to the place
where it stands, that is, the buffer up to the cursor and the completion are the beginning of what the service wrote
for this very buffer; and what accepting it replaces is written in the completion.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsprotocol import types
from pygls.workspace import PositionCodec

from lsp_server.answer_stream import Completion
from lsp_server.answers import to_list
from lsp_server.breaker import CircuitBreaker
from lsp_server.client import CompletionRequest
from lsp_server.completer import Completer
from lsp_server.connection import Connection
from lsp_server.documents import Document, normalise, snapshot
from lsp_server.endpoints import Endpoint
from lsp_server.journal import Journal
from lsp_server.settings import Settings
from lsp_server.status import Status
from tests.lsp_server.test_documents import inside_a_line_end, position_of

URI = "file:///project/a.py"
_CLOSERS = re.compile(r"[)\]}\"'`:;,{\s]*")


@dataclass
class Call:
    """A request that reached the service; `text` is what it will have written when it answers."""

    request: CompletionRequest
    text: str
    on_text: Callable[[str], None]
    answer: asyncio.Future[None]
    sent: int = 0


class Service:
    """Stands in for the remote machine: answers in pieces, when told to."""

    def __init__(self, texts: list[str]) -> None:
        self.calls: list[Call] = []
        self._texts = texts

    async def complete(
        self, request: CompletionRequest, on_text: Callable[[str], None] = lambda piece: None
    ) -> Completion:
        number = len(self.calls)
        # The number makes each completion one of a kind.
        text = self._texts[number % len(self._texts)].replace("#", str(number))
        call = Call(request, text, on_text, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        await call.answer
        on_text(call.text[call.sent :])
        return Completion(f"cmpl-{number}", call.text, "stop", 0.9)

    def advance(self, which: int, characters: int) -> None:
        """One of the requests in progress writes something, or ends."""
        open_calls = [call for call in self.calls if not call.answer.done()]
        if not open_calls:
            return
        call = open_calls[which % len(open_calls)]
        if characters and call.sent + characters < len(call.text):
            call.on_text(call.text[call.sent : call.sent + characters])
            call.sent += characters
        else:
            call.answer.set_result(None)

    def end(self) -> None:
        """Answer all."""
        for call in self.calls:
            if not call.answer.done():
                call.answer.set_result(None)


@dataclass
class Ghost:
    """What the editor displays at the cursor, left over of what was `written` to it: it was handed over for this
    buffer."""

    text: str
    replaces: int
    written: str


@dataclass
class Editor:
    """The model: a buffer, a cursor, undo, and the messages that an editor sends."""

    text: str
    line_end: str
    encoding: str
    service: Service
    cursor: int = 0
    ghost: Ghost | None = None
    history: list[tuple[str, int]] = field(default_factory=list)
    pending: list[asyncio.Task[None]] = field(default_factory=list)
    version: int = 1
    displayed: int = 0

    def __post_init__(self) -> None:
        codec = PositionCodec(self.encoding)
        self.document = Document(URI, self.text, 1, "python", position_codec=codec)
        connection = Connection(Status(lambda state: None), Path("/dev/null"))
        connection._remote = [Endpoint(self.service, CircuitBreaker(time.monotonic))]  # type: ignore[arg-type]
        self.completer = Completer(
            connection, Status(lambda s: None), Journal(time.time), time.monotonic, lambda uri: Settings(debounce_ms=0)
        )

    def edit(self, start: int, end: int, new: str) -> None:
        """Replace a range, and tell the server as an editor does."""
        if inside_a_line_end(self.text, start) or inside_a_line_end(self.text, end):
            return
        self.history.append((self.text, self.cursor))
        self._replace(start, end, new)

    def undo(self) -> None:
        if self.history:
            text, cursor = self.history.pop()
            self._replace(0, len(self.text), text)
            self.cursor = cursor

    def _replace(self, start: int, end: int, new: str) -> None:
        where = types.Range(self.position(start), self.position(end))
        if self.ghost is not None:
            rest = normalise(new)
            follows = start == end == self.cursor and rest and self.ghost.text.startswith(rest)
            # Editors go on displaying what is typed through.
            self.ghost = replace(self.ghost, text=self.ghost.text[len(rest) :]) if follows else None
            if self.ghost is not None and not self.ghost.text:
                self.ghost = None
        self.text = self.text[:start] + new + self.text[end:]
        self.cursor = start + len(new)
        self.version += 1
        self.document.apply_change(types.TextDocumentContentChangePartial(range=where, text=new))
        self.document.version = self.version
        self.completer.changed(URI, self.document.source)
        assert self.document.source == self.text

    def position(self, offset: int) -> types.Position:
        return position_of(self.text, offset, self.encoding)

    def ask(self, by_hand: bool) -> None:
        self.pending.append(asyncio.ensure_future(self._ask(by_hand)))

    async def _ask(self, by_hand: bool) -> None:
        request = snapshot(self.document, self.position(self.cursor), [])
        assert request.before + request.after == self.text
        answer = await self.completer.complete(
            request, time.monotonic(), by_hand, text_now=lambda: self.document.source
        )
        items = to_list([answer] if answer else [], request, self.document).items
        if not items:
            self.ghost = None
            return
        [item] = items
        assert item.range is not None
        start = self.document.offset_at_position(item.range.start)
        end = self.document.offset_at_position(item.range.end)
        assert self.position(start) == item.range.start and self.position(end) == item.range.end
        assert item.range.start.line == item.range.end.line
        if start != self.cursor:
            typed_on = self.text.startswith(request.before) and self.cursor == len(self.text) - len(request.after)
            assert not typed_on, "it has to stand at the cursor"
            return  # the cursor is elsewhere by now: editors show nothing there
        assert isinstance(item.insert_text, str)
        self.ghost = Ghost(item.insert_text, end - start, item.insert_text)
        self.displayed += 1
        self.check_ghost()

    def check_ghost(self) -> None:
        """What is displayed is what the service wrote for this buffer."""
        assert self.ghost is not None
        before, after = normalise(self.text[: self.cursor]), normalise(self.text[self.cursor :])
        replaced = after[: self.ghost.replaces]
        assert "\n" not in replaced
        assert all(char.isspace() or char in self.ghost.written for char in replaced)
        shown = squeeze(before + self.ghost.text)
        for call in self.service.calls:
            suffix = call.request.suffix
            # Without the brackets that the editor closed, at most.
            fits = after.endswith(suffix) and _CLOSERS.fullmatch(after[: len(after) - len(suffix)])
            prefix = call.request.prefix
            # A model that writes the line again that was begun is taken to go on with it.
            echo = prefix[: prefix.rfind("\n") + 1] + call.text
            if fits and any(squeeze(text).startswith(shown) for text in (prefix + call.text, echo)):
                return
        raise AssertionError(f"{self.ghost} does not belong to {before!r} | {after!r}")

    def accept(self, part: int | None) -> None:
        """Take the completion, or its first `part` characters."""
        if self.ghost is None:
            return
        self.check_ghost()
        ghost, before, after = self.ghost, self.text[: self.cursor], self.text[self.cursor :]
        if part is not None and part < len(ghost.text):
            taken, replaced = ghost.text[: max(part, 1)], 0
        else:
            taken, replaced = ghost.text, ghost.replaces
        inserted = taken.replace("\n", self.line_end)
        if inside_a_line_end(before + inserted + after, len(before + inserted)):
            return
        self.edit(self.cursor, self.cursor + replaced, inserted)
        assert self.text == before + inserted + after[replaced:]
        assert self.document.source == self.text

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """All answers come, late as they are."""
        while not all(task.done() for task in self.pending):
            self.service.end()
            await asyncio.sleep(0)
        for task in self.pending:
            if not task.cancelled():
                task.result()
        if self.ghost is not None:
            self.check_ghost()
        self.completer.closed(URI)
        self.service.end()
        await self.settle()


def squeeze(text: str) -> str:
    """Filters may change blanks."""
    return "".join(text.split())


PIECE = st.sampled_from(["a", "b", "(", "()", '"', "é", "😀", "\t", " ", "    ", ":"])
CODE = st.lists(st.sampled_from(["a", "b ", "(", ")", "é", "😀", "\n", "\t", ":", "x = 1"]), max_size=8).map("".join)
WRITTEN = st.lists(
    st.sampled_from(["x#", "y#(", "z#)", " = ", "é#", "😀", "\n    ", "\n", "#:", '"'], ), min_size=1, max_size=5
).map("".join)  # fmt: skip
ACTION = st.one_of(
    st.tuples(st.just("type"), PIECE),
    st.tuples(st.just("through"), st.integers(1, 4)),
    st.tuples(st.just("enter"), st.just(0)),
    st.tuples(st.just("delete"), st.integers(1, 3)),
    st.tuples(st.just("undo"), st.just(0)),
    st.tuples(st.just("move"), st.integers(0, 40)),
    st.tuples(st.just("elsewhere"), st.integers(0, 40)),
    st.tuples(st.just("ask"), st.booleans()),
    st.tuples(st.just("ask"), st.booleans()),
    st.tuples(st.just("complete"), st.booleans()),
    st.tuples(st.just("complete"), st.booleans()),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 3), st.integers(0, 4))),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 3), st.just(0))),
    st.tuples(st.just("accept"), st.none()),
    st.tuples(st.just("accept"), st.integers(1, 5)),
    st.tuples(st.just("let it run"), st.just(0)),
)
RUN = given(
    text=CODE,
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
    texts=st.lists(WRITTEN, min_size=1, max_size=4),
    actions=st.lists(ACTION, min_size=10, max_size=40),
)
SHOWN: list[int] = []


async def play(text: str, line_end: str, encoding: str, texts: list[str], actions: list[tuple[str, Any]]) -> None:
    editor = Editor(text.replace("\n", line_end), line_end, encoding, Service(texts))
    editor.cursor = len(editor.text)
    for kind, value in actions:
        if kind == "type":
            editor.edit(editor.cursor, editor.cursor, value)
            if value in ("()", '"'):
                editor.cursor -= len(value) - 1
                editor.ghost = None
        elif kind == "through" and editor.ghost is not None:
            editor.edit(editor.cursor, editor.cursor, editor.ghost.text[:value].replace("\n", line_end))
        elif kind == "enter":
            editor.edit(editor.cursor, editor.cursor, line_end + "    ")
        elif kind == "delete":
            editor.edit(max(0, editor.cursor - value), editor.cursor, "")
        elif kind == "undo":
            editor.undo()
        elif kind == "move":
            place = min(value, len(editor.text))
            if not inside_a_line_end(editor.text, place):
                editor.cursor, editor.ghost = place, None
        elif kind == "elsewhere":
            cursor = editor.cursor
            place = min(value, len(editor.text))
            size = len(editor.text)
            editor.edit(place, place, "b")
            editor.cursor = cursor + (len(editor.text) - size if place <= cursor else 0)
            editor.ghost = None
        elif kind == "ask":
            editor.ask(value)
        elif kind == "complete":
            editor.ask(value)
            await editor.settle()
            editor.service.end()
            await editor.settle()
        elif kind == "answer":
            editor.service.advance(*value)
        elif kind == "accept":
            editor.accept(value)
        elif kind == "let it run":
            await editor.settle()
        await asyncio.sleep(0)
    await editor.close()
    SHOWN.append(editor.displayed)


def check(max_examples: int) -> Callable[..., None]:
    """The test with that many runs."""

    @settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @RUN
    def run(text: str, line_end: str, encoding: str, texts: list[str], actions: list[tuple[str, Any]]) -> None:
        asyncio.run(play(text, line_end, encoding, texts, actions))

    return run


def test_buffer_is_what_was_meant() -> None:
    SHOWN.clear()
    check(300)()
    assert sum(SHOWN) > 200, "completions are displayed at all"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_buffer_is_what_was_meant_at_length() -> None:
    check(10_000)()
