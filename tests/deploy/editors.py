"""Editors that type: the language server's own client, asking at each pause as somebody writes through a file."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lsp_server.client import CompletionRequest, ServiceClient, ServiceFault
from lsp_server.network import Network
from lsp_server.tokens import Tokens

TEXT = (Path(__file__).parents[1] / "benchmarks" / "unseen.py").read_text()
_LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request.

    `kind`: "answered", "superseded", "refused" (429 or 503 that say when to come back), "cut" (the stream broke after
    its first piece), "failed" (all else; `why`). `at` is time.monotonic() at the end, times are in seconds.
    """

    kind: str
    seconds: float
    first_s: float | None
    at: float
    why: str = ""
    retry: bool = False  # the same request once more, after one that was not answered


@dataclass
class Editor:
    """One document that somebody types into. `outcomes` grows with each request."""

    number: int
    client: ServiceClient
    pause_s: float = 0.2
    max_tokens: int = 24
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def session(self) -> str:
        return f"editor-{self.number}"

    async def type_until(self, over: asyncio.Event) -> None:
        """Type the text again and again, a few characters between two requests; end with a whole answer."""
        chance, rounds = random.Random(self.number), 0
        await asyncio.sleep(chance.random() * self.pause_s)
        while not over.is_set():
            rounds += 1
            head = f"# of editor {self.number}, round {rounds}\n"  # no two documents have one answer
            position = chance.randrange(200, 800)
            while position < len(TEXT) and not over.is_set():
                await self.ask(head + TEXT[:position])
                position += chance.randrange(1, 12)
                await asyncio.sleep(self.pause_s * (0.5 + chance.random()))

    async def ask(self, prefix: str) -> None:
        """Ask; where there was no answer, once more, when the service said or else at once, as the next key does."""
        outcome, wait_s = await self._ask_once(prefix, retry=False)
        self.outcomes.append(outcome)
        if outcome.kind not in ("answered", "superseded"):
            await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
            self.outcomes.append((await self._ask_once(prefix, retry=True))[0])

    async def _ask_once(self, prefix: str, retry: bool) -> tuple[Outcome, float]:
        request = CompletionRequest(
            prefix, "\n", "ledger.py", "python", "line", max_tokens=self.max_tokens, session=self.session
        )
        started, first = time.monotonic(), None

        def on_text(_: str) -> None:
            nonlocal first
            first = time.monotonic() if first is None else first

        kind, why, wait_s = "answered", "", 0.0
        try:
            if await self.client.complete(request, on_text) is None:
                kind = "superseded"
        except ServiceFault as fault:
            why, wait_s = str(fault), fault.retry_after_s or 0.0
            refused = fault.status in (429, 503) and fault.retry_after_s is not None
            kind = "refused" if refused else "cut" if first else "failed"
        ended = time.monotonic()
        return Outcome(kind, ended - started, first and first - started, ended, why, retry), wait_s


class Editors:
    """Async context manager: so many editors type inside. Afterwards `outcomes` has what came of their requests."""

    def __init__(self, url: str, certificate: Path, key: str, count: int, pause_s: float = 0.2) -> None:
        network = Network(ca_bundle=str(certificate))
        self.editors = [
            Editor(number, ServiceClient(url, Tokens.fixed(key), 20_000, network, redacts=False), pause_s)
            for number in range(count)
        ]
        self._over = asyncio.Event()
        self._typing: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Editors:
        self._typing = [asyncio.create_task(editor.type_until(self._over)) for editor in self.editors]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._typing)
        for editor in self.editors:
            await editor.client.close()

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for editor in self.editors for outcome in editor.outcomes]

    async def answers(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = counts(self.outcomes)["answered"] + more
        while counts(self.outcomes)["answered"] < wanted:
            await asyncio.sleep(0.05)


def counts(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many there are of each kind."""
    return Counter(outcome.kind for outcome in outcomes)


def failures(outcomes: Iterable[Outcome]) -> list[str]:
    """What went wrong, for a message."""
    return [f"{one.kind}: {one.why}" for one in outcomes if one.kind not in ("answered", "superseded")]
