"""The language server beside two simpler ways to do it, on the same keystrokes against the same service.

    python -m tests.benchmarks.bench_lsp_peers [--file FILE] [--keystrokes 150]

"every keystroke" asks at each keystroke and cancels the request before (as llm-ls does); "250 ms debounce" waits that
long without typing and then looks into its cache and asks (as Tabby's agent does with a fixed debounce). All three send
the same prompts for the same places. The pauses between keystrokes are drawn once, from a log-normal distribution
around 130 ms, longer where a line begins. A suggestion counts as shown if it was there before the next keystroke; its
time runs from the keystroke. Prints a table and writes a result.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.cluster.processes import free_port
from lsp_server.client import CompletionRequest, ServiceClient
from lsp_server.decision import mode_at
from lsp_server.documents import window_prefix, window_suffix
from lsp_server.tokens import Tokens
from tests.benchmarks import record
from tests.lsp_server.session import AUTOMATIC, RpcError, Session

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = Path(__file__).with_name("unseen.py")
MAX_TOKENS = 128
COUNTERS = ("prompt_tokens", "prefix_cache_hits", "generation_tokens", "wasted_tokens")


@dataclass
class Trace:
    """What is typed where, and the pause after each keystroke in seconds."""

    before: str
    typed: str
    after: str
    pauses: list[float]


@dataclass
class Outcome:
    """Of one client: milliseconds from keystroke to suggestion, and what the service did for it: tokens `computed` for
    answers that were told to their end, and `wasted` on requests that were given up."""

    times: list[float] = field(default_factory=list)
    requests: int = 0
    computed: int = 0
    wasted: int = 0


def trace_of(path: Path, keystrokes: int, pace: float) -> Trace:
    """About `keystrokes` characters from the first half of the file, with pauses `pace` times as long as usual."""
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    begin = text.rfind("\n", 0, len(text) // 3) + 1
    # Whole lines, so that nothing stands right of the cursor.
    end = text.find("\n", begin + keystrokes)
    typed = text[begin:end]
    chance = random.Random(0)
    pauses = []
    for char in typed:
        median = 0.45 if char == "\n" else 0.2 if char in " .([{:" else 0.13
        pauses.append(pace * min(max(median * math.exp(chance.gauss(0, 0.45)), 0.05), 2.0))
    return Trace(text[:begin], typed, text[end:], pauses)


def ours(trace: Trace, url: str, path: str) -> Outcome:
    """The language server, asked at each keystroke as an editor does, the request before cancelled."""
    outcome = Outcome()
    with Session.start() as session:
        session.initialize(endpoint=url, minConfidence=0, maxTokens=MAX_TOKENS, feedback=False)
        session.wait_notification("didChangeStatus")
        uri = f"file:///project/{path}"
        session.open(uri, trace.before + trace.after)
        line, character = trace.before.count("\n"), 0
        for char, pause in zip(trace.typed, trace.pauses, strict=True):
            pressed = time.perf_counter()
            session.insert(uri, line, character, char)
            line, character = (line + 1, 0) if char == "\n" else (line, character + 1)
            request = session.ask(uri, line, character, AUTOMATIC)
            try:
                if session.wait(request, pause)["items"]:
                    outcome.times.append((time.perf_counter() - pressed) * 1000)
            except TimeoutError:
                session.cancel(request)
            except RpcError:
                pass
            time.sleep(max(0.0, pressed + pause - time.perf_counter()))
    return outcome


async def simpler(trace: Trace, url: str, path: str, debounce_s: float, cached: bool) -> Outcome:
    """A client without our flow: one request in progress, cancelled at the next keystroke."""
    outcome = Outcome()
    client = ServiceClient(url, Tokens.fixed(""), timeout_ms=30_000)
    known: dict[str, str] = {}

    async def suggest(prefix: str, pressed: float) -> None:
        await asyncio.sleep(debounce_s)
        text = next((known[p][len(prefix) - len(p) :] for p in known if (p + known[p]).startswith(prefix)), "")
        if not (cached and len(text)):
            mode = mode_at(prefix, trace.after, "auto", "python")
            completion = await client.complete(
                CompletionRequest(
                    window_prefix(prefix), window_suffix(trace.after), path, "python", mode, MAX_TOKENS, "peer"
                )
            )
            text = completion.text if completion else ""
            known[prefix] = text
        if text.strip():
            outcome.times.append((time.perf_counter() - pressed) * 1000)

    prefix = trace.before
    try:
        for char, pause in zip(trace.typed, trace.pauses, strict=True):
            prefix += char
            task = asyncio.ensure_future(suggest(prefix, time.perf_counter()))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await client.close()
    return outcome


def counters(url: str) -> dict[str, float]:
    """The service's counters that matter here, and its requests."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values: dict[str, float] = dict.fromkeys((*COUNTERS, "requests"), 0.0)
    for row in lines:
        for name in COUNTERS:
            if row.startswith(f"midfill_{name}_total "):
                values[name] = float(row.split()[-1])
        if row.startswith("midfill_requests_total{"):
            values["requests"] += float(row.split()[-1])
    return values


def measured(url: str, run: Callable[[], Outcome]) -> Outcome:
    """The outcome of `run` with what the service counted meanwhile."""
    before = counters(url)
    outcome = run()
    time.sleep(1.0)
    spent = {name: value - before[name] for name, value in counters(url).items()}
    outcome.computed = int(spent["prompt_tokens"] - spent["prefix_cache_hits"] + spent["generation_tokens"])
    outcome.requests, outcome.wasted = int(spent["requests"]), int(spent["wasted_tokens"])
    return outcome


def row_of(outcome: Outcome, keystrokes: int) -> dict[str, Any]:
    """What the table says of one client."""
    times = sorted(outcome.times)
    return {
        "requests": outcome.requests,
        "tokens computed": outcome.computed,
        "tokens for nobody": outcome.wasted,
        "shown per 100": round(100 * len(times) / keystrokes, 1),
        "p50 ms": round(statistics.median(times), 1) if times else None,
        "p95 ms": round(times[min(len(times) - 1, int(len(times) * 0.95))], 1) if times else None,
    }


def serve() -> tuple[subprocess.Popen[bytes], str]:
    """A service with the bundled model on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "inference_service", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return process, url
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise TimeoutError("the service did not get ready")


def main() -> int:
    """Run the benchmark."""
    parser = record.parser(__doc__)
    parser.add_argument("--file", type=Path, default=UNSEEN, help="a source file that the model has not seen")
    parser.add_argument("--keystrokes", type=int, default=150)
    parser.add_argument("--pace", type=float, default=1.0, help="longer pauses, on a machine that is busy")
    options = parser.parse_args()
    trace = trace_of(options.file, options.keystrokes, options.pace)
    clients: dict[str, Callable[[str], Outcome]] = {
        "every keystroke": lambda url: asyncio.run(simpler(trace, url, "every.py", 0.0, cached=False)),
        "250 ms debounce": lambda url: asyncio.run(simpler(trace, url, "fixed.py", 0.25, cached=True)),
        "midfill-lsp": lambda url: ours(trace, url, "ours.py"),
    }
    rows = {}
    for name, run in clients.items():
        # Each gets a service of its own: none may live on what another had computed.
        process, url = serve()
        try:
            rows[name] = row_of(measured(url, lambda run=run, url=url: run(url)), len(trace.typed))  # type: ignore[misc]
        finally:
            process.terminate()
            process.wait(20)
    heads = list(next(iter(rows.values())))
    print(f"{len(trace.typed)} keystrokes in {sum(trace.pauses):.0f} s")
    print(f"{'client':<18}" + "".join(f"{head:>19}" for head in heads))
    for name, row in rows.items():
        print(f"{name:<18}" + "".join(f"{row[head]!s:>19}" for head in heads))
    seconds = sum(trace.pauses)
    record.write("lsp-peers", {"keystrokes": len(trace.typed), "seconds": seconds, "clients": rows}, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
