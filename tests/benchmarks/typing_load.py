"""Editors that type: each at a place of its own, a streamed request at each keystroke, the one before given up.

Raw HTTP over asyncio, a connection a request, because closing it is how an editor gives up; the load is to cost little
beside the servers on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

WINDOW, TOKENS = 1500, 16


@dataclass
class Outcome:
    """Of all editors together: seconds to the first text of each request that had one, and counts: requests, pieces of
    text (a token each, but where a character needs several), and tokens `computed` for whole answers."""

    first: list[float] = field(default_factory=list)
    asked: int = 0
    refused: int = 0
    pieces: int = 0
    wasted: int = 0
    computed: int = 0


def texts() -> Iterator[str]:
    """Long Python files, another one at each call."""
    for path in sorted(Path(torch.__file__).parent.rglob("*.py")):
        if path.stat().st_size > 8000:
            yield path.read_text(encoding="utf-8", errors="replace")


async def type_together(port: int, editors: int, seconds: float) -> Outcome:
    """What `editors` people see who type for `seconds`, after one request each that fills the caches."""
    outcome = Outcome()
    source = texts()
    people = [Editor(number, next(source), port, outcome) for number in range(editors)]
    for person in people:
        await person.ask(count=False)
    await asyncio.gather(*(person.type(seconds) for person in people))
    return outcome


class Editor:
    def __init__(self, number: int, text: str, port: int, outcome: Outcome) -> None:
        self._chance = random.Random(number)
        self._text, self._port, self._outcome = text, port, outcome
        self._cursor = self._chance.randrange(len(text) // 3, len(text) // 2)
        self._start = max(0, self._cursor - WINDOW)  # stays while a file is being typed, as editors cut it
        self._session = f"editor-{number}"

    async def type(self, seconds: float) -> None:
        """Pauses are log-normal around 130 ms, longer where a word and where a line begins."""
        await asyncio.sleep(self._chance.random() * 0.5)
        until = time.perf_counter() + seconds
        asking: asyncio.Task[None] | None = None
        while time.perf_counter() < until:
            char = self._text[self._cursor]
            self._cursor += 1
            if asking is not None:
                asking.cancel()
            asking = asyncio.create_task(self.ask())
            median = 0.45 if char == "\n" else 0.2 if char in " .([{:" else 0.13
            await asyncio.sleep(min(max(median * math.exp(self._chance.gauss(0, 0.45)), 0.05), 2.0))
        if asking is not None:
            await asyncio.wait([asking], timeout=1)
            asking.cancel()

    async def ask(self, count: bool = True) -> None:
        prompt = self._text[self._start : self._cursor]
        await ask(self._port, prompt, self._session, self._outcome if count else Outcome())


async def ask(port: int, prompt: str, session: str, outcome: Outcome) -> dict[str, Any]:
    """Counts a streamed request of TOKENS tokens into `outcome`; its last event, empty where it was refused. Cancelling
    it hangs up."""
    fields = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True, "session": session}
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    asked, pieces, ended = time.perf_counter(), 0, False
    last: dict[str, Any] = {}
    outcome.asked += 1
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        if b" 200 " not in await reader.readline():
            outcome.refused += 1
            ended = True
            return last
        async for line in reader:
            if line.startswith(b"data: [DONE]"):
                ended = True
                break
            if line.startswith(b"data: {"):
                last = json.loads(line[6:])
                if last["choices"][0].get("text"):
                    if not pieces:
                        outcome.first.append(time.perf_counter() - asked)
                    pieces += 1
    except OSError:
        outcome.refused += 1
    finally:
        if ended and "usage" in last:
            usage = last["usage"]
            outcome.computed += usage["total_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
        outcome.pieces += pieces
        outcome.wasted += 0 if ended else pieces
        if writer is not None:
            writer.close()
    return last
