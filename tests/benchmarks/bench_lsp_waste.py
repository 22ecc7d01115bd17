"""What the service computes for nobody while somebody types through the language server, by kind of request.

    python -m tests.benchmarks.bench_lsp_waste [--file FILE ...] [--keystrokes 250]

Somebody types into files that exist: one keystroke in 12 is wrong and taken back, one in 60 looks at another line and
returns, and what is right and was on display for 0.3 s is taken. Pauses as in bench_lsp_peers. The completer and the
bundled model are the real ones; time is not: it passes only where somebody waits, and the service takes what a table
says, so that the counts do not depend on the machine. Other files are not sent along. Prints tables and writes a
result.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import statistics
import sys
import sysconfig
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lsprotocol import types

from inference_service.backends.local import LocalBackend
from inference_service.engine import request as engine_request
from lsp_server.answer_stream import ENOUGH, Completion, OnText
from lsp_server.client import CompletionRequest
from lsp_server.completer import Completer
from lsp_server.connection import Connection
from lsp_server.documents import Document, snapshot
from lsp_server.journal import Journal
from lsp_server.settings import Settings
from lsp_server.status import Status
from tests.benchmarks import record

UNSEEN = Path(__file__).with_name("unseen.py")
STANDARD_LIBRARY = ("cmd.py", "configparser.py", "csv.py", "mailbox.py", "queue.py", "sched.py", "zipapp.py")
TAKEN_BACK, LOOKS_ELSEWHERE = 1 / 12, 1 / 60
READS_S = 0.3
WORTH_TAKING = 5  # characters
_SEPARATORS = " .([{:"


@dataclass(frozen=True)
class Speed:
    """Of a service, in seconds: both ways of the network, a token read and a token written."""

    network: float
    read: float
    write: float


SPEEDS = {
    "this machine, nano": Speed(0.002, 0.00005, 0.0008),
    "this machine, 124M": Speed(0.002, 0.00035, 0.007),
    "a GPU, 20 ms away": Speed(0.020, 0.00002, 0.002),
}


@dataclass
class Asked:
    """One request to the service and what became of it. Tokens `read` are those of the prompt that it had not kept,
    `written` those generated; `end` is what the service said, ENOUGH, or "given up"; `shown` are the most characters of
    its `text` that were on display at once."""

    kind: str
    read: int = 0
    written: int = 0
    end: str = ""
    shown: int = 0
    text: str = ""

    @property
    def nobody(self) -> int:
        """Tokens written that nobody saw."""
        return round(self.written * max(0.0, 1 - self.shown / max(1, len(self.text)))) if self.shown else self.written


@dataclass
class Tally:
    """Of all that was typed at one speed. `times` are seconds from a keystroke to what is shown after it, 0 where the
    service was not needed; `first_lines`
    of each completion, when it is shown first: whether its first line is what comes."""

    keystrokes: int = 0
    shown: int = 0
    taken: int = 0
    times: list[float] = field(default_factory=list)
    first_lines: list[bool] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class VirtualTime(asyncio.SelectorEventLoop):
    """Nothing is waited for: the clock goes on to when the next thing is due."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.now


class _Skipping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self._loop.now += timeout
        return super().select(0)


class Model:
    """The bundled model on a thread of its own; `write` blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._backend = LocalBackend("nano")
        asyncio.run_coroutine_threadsafe(self._backend.start(), self._loop).result()

    def write(self, request: CompletionRequest, tenant: str) -> list[engine_request.Chunk]:
        asked = engine_request.CompletionRequest(
            request.prefix,
            suffix=request.suffix,
            path=request.path,
            max_tokens=request.max_tokens,
            mode=request.mode,  # type: ignore[arg-type]
            tenant=tenant,
            deadline=time.monotonic() + 600,
        )

        async def collect() -> list[engine_request.Chunk]:
            return [chunk async for chunk in self._backend.complete(asked)]

        return asyncio.run_coroutine_threadsafe(collect(), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._backend.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


class Service:
    """Stands where the connection does: answers as the model does, as fast as `speed` says."""

    breaker = SimpleNamespace(wait_s=0.0)

    def __init__(self, model: Model, name: str, speed: Speed, tally: Tally) -> None:
        self._model, self._name, self._speed, self._tally = model, name, speed, tally
        self.answers: dict[str, Asked] = {}

    @property
    def client(self) -> Service:
        return self

    def unavailable(self) -> None:
        return None

    async def complete(self, request: CompletionRequest, on_text: OnText = lambda piece: None) -> Completion | None:
        loop, speed = asyncio.get_running_loop(), self._speed
        chunks = self._model.write(request, self._name)
        stats = chunks[-1].stats
        assert stats is not None
        asked = Asked(f"{request.purpose or 'asked'}, {request.mode}")
        self._tally.asked.append(asked)
        completion_id = str(len(self._tally.asked))
        self.answers[completion_id] = asked
        began, fresh = loop.time(), stats.prompt_tokens - stats.cached_tokens
        reading = fresh * speed.read

        def computed() -> None:
            spent = loop.time() - began
            asked.read = fresh if spent >= reading else int(spent / speed.read)
            asked.written = max(0, min(stats.completion_tokens, 1 + int((spent - reading) / speed.write)))

        try:
            tokens, total = 0, 0.0
            for chunk in chunks:
                tokens += len(chunk.token_logprobs)
                total += sum(logprob for _, logprob in chunk.token_logprobs)
                due = began + speed.network + reading + tokens * speed.write
                await asyncio.sleep(max(0.0, due - loop.time()))
                asked.text += chunk.text
                if chunk.text and on_text(chunk.text):
                    computed()
                    asked.end = ENOUGH
                    return Completion(completion_id, asked.text, ENOUGH, math.exp(total / tokens) if tokens else None)
        except asyncio.CancelledError:
            computed()
            asked.end = "given up"
            raise
        asked.read, asked.written, asked.end = fresh, stats.completion_tokens, str(chunks[-1].finish_reason)
        confidence = None if stats.mean_logprob is None else math.exp(stats.mean_logprob)
        return Completion(completion_id, asked.text, asked.end, confidence)


class Typist:
    """Types `typed` between `before` and `after` into a document, asking at each keystroke as an editor does."""

    def __init__(self, service: Service, tally: Tally, path: Path, keystrokes: int) -> None:
        clock = asyncio.get_running_loop().time
        self._journal = Journal(clock)
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        begin = text.rfind("\n", 0, len(text) // 3) + 1
        end = text.find("\n", begin + keystrokes)
        self._typed = text[begin : end if end >= 0 else len(text)]
        rest = text[begin + len(self._typed) :]
        self._uri = f"file:///{path.name}"
        self._document = Document(self._uri, text[:begin] + rest, 0, "python")
        self._at = begin
        self._service, self._tally = service, tally
        self._completer = Completer(
            cast(Connection, service), Status(lambda state: None), self._journal, clock, lambda uri: Settings()
        )
        self._chance = random.Random(0)
        self._asking: asyncio.Task[None] | None = None
        self._shown: tuple[str, float, str] | None = None  # id, since when, text
        self._seen: set[str] = set()

    async def type(self) -> None:
        done = 0
        while done < len(self._typed):
            if self._wants(self._typed[done:]):
                assert self._shown is not None
                text = self._shown[2]
                self._tally.taken += 1
                self._shown = None
                self._edit(text)
                done += len(text)
                await self._pause(text[-1], done)
                continue
            char, chance = self._typed[done], self._chance.random()
            if char.isalnum() and chance < TAKEN_BACK:
                self._edit(self._chance.choice("etaoinsr"))
                await self._pause("x", done, counts=False)
                self._edit("", deleted=1)
                await self._pause("x", done)
            elif chance > 1 - LOOKS_ELSEWHERE:
                home, text = self._at, self._document.source
                elsewhere = text.find("\n", self._chance.randrange(len(text) // 2))
                self._at = elsewhere if elsewhere >= 0 else home
                await self._pause("\n", done, counts=False)
                self._at = home
                await self._pause("\n", done)
            self._edit(char)
            done += 1
            await self._pause(char, done)
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._completer.closed(self._uri)

    def _wants(self, coming: str) -> bool:
        if self._shown is None:
            return False
        _, since, text = self._shown
        looked = asyncio.get_running_loop().time() - since >= READS_S
        return looked and len(text) >= WORTH_TAKING and coming.startswith(text)

    def _edit(self, text: str, deleted: int = 0) -> None:
        start, end = (self._document.client_position_at_offset(at) for at in (self._at - deleted, self._at))
        self._document.apply_change(types.TextDocumentContentChangePartial(types.Range(start, end), text))
        self._at += len(text) - deleted
        if self._shown is not None:
            completion_id, since, shown = self._shown
            agrees = not deleted and shown.startswith(text) and shown != text
            self._shown = (completion_id, since, shown[len(text) :]) if agrees else None
        self._completer.changed(self._uri, self._document.source)

    async def _pause(self, last: str, done: int, counts: bool = True) -> None:
        """Ask, and look at what is shown until the next keystroke."""
        median = 0.45 if last == "\n" else 0.2 if last in _SEPARATORS else 0.13
        seconds = min(max(median * math.exp(self._chance.gauss(0, 0.45)), 0.05), 2.0)
        older, self._asking = self._asking, asyncio.ensure_future(self._ask(self._typed[done:], counts))
        self._tally.keystrokes += counts
        if older is not None:
            older.cancel()
        await asyncio.sleep(seconds)

    async def _ask(self, coming: str, counts: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        request = snapshot(self._document, self._document.client_position_at_offset(self._at), [])
        answer = await self._completer.complete(request, began, False, lambda: self._document.source)
        if answer is None:
            self._shown = None
            self._tally.reasons[self._journal.records()[-1].outcome.partition(" (")[0]] += counts
            return
        asked = self._service.answers[answer.completion_id]
        asked.shown = max(asked.shown, len(answer.text))
        if self._shown is None or self._shown[0] != answer.completion_id:
            self._shown = answer.completion_id, loop.time(), answer.text
        if counts:
            self._tally.shown += 1
            self._tally.times.append(loop.time() - began)
            if answer.completion_id not in self._seen:
                self._tally.first_lines.append(coming.partition("\n")[0] == answer.text.partition("\n")[0])
        self._seen.add(answer.completion_id)
        self._completer.displayed(answer.completion_id)


def type_all(model: Model, name: str, files: list[Path], keystrokes: int) -> Tally:
    """Everything typed at one speed, each file by somebody of their own."""
    tally = Tally()

    async def one(path: Path) -> None:
        await Typist(Service(model, f"{name} {path}", SPEEDS[name], tally), tally, path, keystrokes).type()

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        for path in files:
            runner.run(one(path))
    return tally


def kinds(tally: Tally) -> Iterator[tuple[str, list[Asked]]]:
    """The requests by what they were made for and what became of them."""
    found: dict[str, list[Asked]] = defaultdict(list)
    for asked in tally.asked:
        end = {ENOUGH: "broken off", "given up": "given up"}.get(asked.end, "answered")
        found[f"{asked.kind}: {end}, {'shown' if asked.shown else 'never shown'}"].append(asked)
    yield from sorted(found.items())


def summary(tally: Tally) -> dict[str, Any]:
    """The figures of one speed."""
    times, asked = sorted(tally.times), sorted(seconds for seconds in tally.times if seconds)
    total, written = sum(one.read + one.written for one in tally.asked), sum(one.written for one in tally.asked)
    given_up = [one for one in tally.asked if one.end == "given up"]
    return {
        "keystrokes": tally.keystrokes,
        "requests": len(tally.asked),
        "tokens": total,
        "written": written,
        "written_for_nobody": sum(one.nobody for one in tally.asked),
        "given_up_percent": 100 * sum(one.read + one.written for one in given_up) / total,
        "for_nobody_percent": 100 * sum(one.nobody for one in tally.asked) / total,
        "shown_per_100": 100 * tally.shown / tally.keystrokes,
        "suggestions": len(tally.first_lines),
        "first_line_right": sum(tally.first_lines) / max(1, len(tally.first_lines)),
        "right": sum(tally.first_lines),
        "taken": tally.taken,
        "p95_ms": _p95_ms(times),
        "asked": len(asked),
        "asked_p50_ms": statistics.median(asked) * 1e3 if asked else None,
        "asked_p95_ms": _p95_ms(asked),
    }


def _p95_ms(ordered: list[float]) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1e3 if ordered else None


def main() -> int:
    parser = record.parser(__doc__)
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [UNSEEN, *(library / name for name in STANDARD_LIBRARY)]
    parser.add_argument("--file", type=Path, nargs="*", default=files)
    parser.add_argument("--keystrokes", type=int, default=250, help="in each file")
    parser.add_argument("--speed", choices=[*SPEEDS], action="append", help="only this one")
    options = parser.parse_args()
    model = Model()
    figures = {}
    for name in options.speed or SPEEDS:
        tally = type_all(model, name, options.file, options.keystrokes)
        figures[name] = summary(tally)
        print(f"\n{name}")
        print(f"{'requests':<38}{'count':>7}{'read':>9}{'written':>9}{'unseen':>9}")
        for kind, some in kinds(tally):
            read, written = sum(one.read for one in some), sum(one.written for one in some)
            print(f"{kind:<38}{len(some):>7}{read:>9}{written:>9}{sum(one.nobody for one in some):>9}")
        for key, value in figures[name].items():
            print(f"  {key.replace('_', ' ')}: {round(value, 3) if isinstance(value, float) else value}")
        reasons = sorted(tally.reasons.items(), key=lambda reason: -reason[1])
        print("  nothing shown: " + "; ".join(f"{count} {reason}" for reason, count in reasons))
    model.close()
    record.write("lsp-waste", figures, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
