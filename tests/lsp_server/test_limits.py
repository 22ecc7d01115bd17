"""Nothing that the server does holds up its loop, whatever the size of a file; and it stays small."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lsprotocol import types

from lsp_server.answer_stream import Completion
from lsp_server.breaker import CircuitBreaker
from lsp_server.client import CompletionRequest
from lsp_server.documents import Document, Mirror
from lsp_server.endpoints import Endpoint
from lsp_server.memory import settle
from lsp_server.server import build
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import AUTOMATIC, Session

LINE = "    total_{0} = price(order_{0})  # {0}\n"
HUGE = "".join(LINE.format(number) for number in range(50_000))
BLOCKED_MS = 15.0
RESIDENT_KB = 60 * 1024
KEYSTROKES = 10_000


class Watchdog:
    """The longest turn of the event loop, in milliseconds of processor time: other processes do not count."""

    def __init__(self) -> None:
        self.turns: list[float] = []

    async def run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.turns.append((now - last) * 1000)
            last = now


class Prompt:
    """A service that answers at once."""

    def __init__(self) -> None:
        self.calls = 0

    async def complete(
        self, request: CompletionRequest, on_text: Callable[[str], None] = lambda piece: None
    ) -> Completion:
        self.calls += 1
        await asyncio.sleep(0)
        on_text("xyzzy = 1")
        return Completion(f"cmpl-{self.calls}", "xyzzy = 1", "stop", 0.9)

    async def alternatives(self, request: CompletionRequest, count: int) -> list[tuple[str, str]]:
        return [("cmpl-0", f"xyzzy = {number}") for number in range(count)]

    async def context_length(self) -> int:
        return 8192


async def test_no_turn_of_the_loop_takes_long_in_a_file_of_50_000_lines(tmp_path: Path) -> None:
    server = build("0")
    root = tmp_path.as_uri()
    mirror = Mirror(root, types.TextDocumentSyncKind.Incremental, None, types.PositionEncodingKind.Utf16)
    server.protocol._workspace = mirror
    server.connection._remote = [Endpoint(Prompt(), CircuitBreaker(time.monotonic))]  # type: ignore[arg-type]
    server.configuration.take_pushed({"debounceMs": 0, "feedback": False})
    server.configuration.resolve()
    uri, other = (tmp_path / "huge.py").as_uri(), (tmp_path / "other.py").as_uri()
    for name, text in ((other, HUGE[:150_000]), (uri, HUGE)):
        mirror.put_text_document(types.TextDocumentItem(uri=name, language_id="python", version=1, text=text))
        server.used(name)
    server.editor_settings.known.set()
    document = mirror.open_document(uri)
    assert document is not None
    document.offset_at_position(types.Position(1, 0))  # opening it may take a moment, once
    settle()
    watchdog = Watchdog()
    watching = asyncio.ensure_future(watchdog.run())
    shown = 0
    for number, char in enumerate("\n    xyzzy = 1\n    other = 2\n    xyzzy = 3" * 3):
        await asyncio.sleep(0)
        at = types.Position(25_000, number) if char != "\n" else types.Position(25_000, 0)
        text = char if char != "\n" else "\n" + "    "
        change = types.TextDocumentContentChangePartial(range=types.Range(at, at), text=text)
        document.apply_change(change)
        server.changed(uri, 25_000)
        request = server.snapshot(document, types.Position(25_000, number + 1))
        await asyncio.sleep(0)
        answer = await server.complete(request, time.monotonic(), by_hand=True)
        shown += bool(answer)
    server.readiness.get_ready(uri)
    for _ in range(200):
        await asyncio.sleep(0)
    watching.cancel()
    gc.unfreeze()
    assert shown > 20
    turns = sorted(watchdog.turns)
    # Two turns may have had the garbage collector or the interpreter's own house-keeping in them.
    assert turns[-3] < BLOCKED_MS, turns[-5:]


def test_nor_does_an_edit_in_a_line_of_a_megabyte() -> None:
    document = Document("file:///a.json", "é" + "x" * 1_000_000, 1, "json")
    document.offset_at_position(types.Position(0, 0))  # opening it may take a moment, once
    at = types.Position(0, 900_000)
    began = time.thread_time()
    document.apply_change(types.TextDocumentContentChangePartial(range=types.Range(at, at), text="y"))
    taken = document.client_position_at_offset(900_001)
    took_ms = (time.thread_time() - began) * 1000
    assert document.source[900_000] == "y" and taken.character == 900_001
    assert took_ms < 10 * BLOCKED_MS  # that of counting each character: 1500


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("text", ["", HUGE], ids=["new file", "50,000 lines"])
def test_stays_small(server_env: dict[str, str], service: ScriptedService, tmp_path: Path, text: str) -> None:
    service.context_length = 8192
    service.default = Reply(("abc = compute(abc)",))
    with Session.start(env=server_env) as session:
        session.initialize(root=tmp_path, endpoint=service.url, debounceMs=0)
        uri = (tmp_path / "file.py").as_uri()
        session.open(uri, text)
        line, character, shown = text.count("\n") // 2, 0, 0
        session.insert(uri, line, 0, "\n")  # nothing right of the cursor
        for number in range(KEYSTROKES):
            char = "abc = compute(x)\n"[number % 17]
            session.insert(uri, line, character, char)
            line, character = (line + 1, 0) if char == "\n" else (line, character + 1)
            shown += bool(session.complete(uri, line, character, AUTOMATIC))
            service.calls.clear()
        status = Path(f"/proc/{session.process.pid}/status").read_text()
        assert shown > KEYSTROKES / 10
        assert int(status.split("VmRSS:")[1].split()[0]) < RESIDENT_KB
