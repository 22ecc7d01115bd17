"""The keystroke trace over HTTP: our service and llama.cpp's server with its prompt cache, one at a time, each started
anew for each way of asking, on the same random weights.

At each keystroke, and only where our language server would ask: where nothing that nano has suggested before is being
typed. That nano says it and not the random weights is a help to neither server: they get the same requests.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from inference_service.backends.local import LocalBackend
from inference_service.engine.request import CompletionRequest
from lsp_server.cache import Cached, TypeThroughCache
from tests.benchmarks.bench_lsp_peers import counters
from tests.benchmarks.servers import NAMES, Server
from tests.benchmarks.typing_load import Outcome, ask, type_together

EVERY, LANGUAGE_SERVER = "each keystroke", "as the language server asks"
GOOD_S = 0.1


async def not_typed_through(requests: list[CompletionRequest]) -> list[CompletionRequest]:
    """Those that are left when the language server's cache answers what nano has suggested already."""
    cache, left = TypeThroughCache(time.monotonic), []
    backend = LocalBackend("nano")
    await backend.start()
    for number, request in enumerate(requests):
        where = ("", request.prompt, request.suffix or "")
        if cache.get(*where) is None:
            text = "".join([chunk.text async for chunk in backend.complete(request)])
            cache.put(*where, Cached(str(number), text))
            left.append(request)
    await backend.stop()
    return left


async def whole_answers(port: int, requests: list[CompletionRequest]) -> dict[str, float]:
    """One after the other, each to its end. The first one, which fills the cache, does not count."""
    seconds, fresh, prompts = [], [], 0
    for request in requests:
        started = time.perf_counter()
        usage = (await ask(port, request.prompt, "replay", Outcome()))["usage"]
        seconds.append(time.perf_counter() - started)
        prompts += usage["prompt_tokens"]
        fresh.append(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])
    return {
        "total_s": sum(seconds[1:]),
        "p50_ms": statistics.median(seconds[1:]) * 1e3,
        "fresh_tokens_p50": statistics.median(fresh[1:]),
        "prefix_hit_percent": 100 * (1 - sum(fresh) / prompts),
    }


def typed(server: Server, seconds: float) -> dict[str, float]:
    """One person types at human speed; each keystroke gives up the request before. For those that were given up:
    `wasted` is their share of the tokens received, `nobody` that of all that the service computed, read or written."""
    url = f"http://127.0.0.1:{server.port}"
    counts = server.name == "midfill"
    before = counters(url)["wasted_tokens"] if counts else 0
    outcome = asyncio.run(type_together(server.port, 1, seconds))
    figures = {
        "asked": outcome.asked,
        "goodput": sum(first <= GOOD_S for first in outcome.first) / outcome.asked,
        "wasted": outcome.wasted / max(outcome.pieces, 1),
    }
    if counts:
        wasted = counters(url)["wasted_tokens"] - before
        figures["nobody"] = wasted / max(wasted + outcome.computed, 1)
    return figures


def replay(folder: Path, threads: int, requests: list[CompletionRequest], seconds: float) -> dict[str, Any]:
    """Both servers, both ways of asking, and `seconds` of typing."""
    ways = {EVERY: requests, LANGUAGE_SERVER: asyncio.run(not_typed_through(requests))}
    found: dict[str, Any] = {"requests": {way: len(some) for way, some in ways.items()}, "ways": {}, "typed": {}}
    for way, some in ways.items():
        for name in NAMES:
            server = Server(name, folder, threads, 1)
            try:
                found["ways"].setdefault(way, {})[name] = asyncio.run(whole_answers(server.port, some))
                if way == EVERY:
                    found["typed"][name] = typed(server, seconds)
            finally:
                server.close()
            print(f"{name}, {way}: {found['ways'][way][name]['total_s']:.1f} s", file=sys.stderr, flush=True)
    return found
