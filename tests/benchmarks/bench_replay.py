"""A typing session over GPT-2's shape: the engine beside llama.cpp with its prompt cache, same weights, same trace; and
the same over HTTP, our service beside llama.cpp's server.

One character after the other, one in 12 taken back, one in 40 from another line; 16 tokens at each. Random weights
write nonsense, so the lines have no end of their own: every answer is 16 tokens for both. The two engines take turns,
request by request; the servers run one at a time (tests/benchmarks/http_replay.py). Prints tables and writes a result.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from inference_service.engine.prompt import build_prompt
from tests.benchmarks import record
from tests.benchmarks.bench_engine import TOKENS, trace
from tests.benchmarks.http_replay import replay
from tests.benchmarks.peers import CTranslate2, LlamaCpp, Ours, Transformers, present
from tests.benchmarks.servers import write_weights


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of typing at human speed over HTTP, for each server"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--speculation", action="store_true", help="random weights repeat themselves: it wins too much")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "midfill-peers")
    args = parser.parse_args()
    loaded, found = present(
        args.work, args.threads, 1, (CTranslate2.name, Transformers.name), speculation=args.speculation
    )
    ours, llama = found[Ours.name], found[LlamaCpp.name]
    seconds: dict[str, list[float]] = {Ours.name: [], LlamaCpp.name: []}
    fresh, cached, prompts = [], 0, 0
    requests = list(trace(args.requests))
    for request in requests:
        request = dataclasses.replace(request, suffix=None, mode="auto")  # GPT-2 knows no infilling
        started = time.perf_counter()
        [last] = ours.run([request])
        seconds[Ours.name].append(time.perf_counter() - started)
        assert last.stats is not None
        fresh.append(last.stats.prompt_tokens - last.stats.cached_tokens)
        cached, prompts = cached + last.stats.cached_tokens, prompts + last.stats.prompt_tokens
        if not isinstance(llama, str):
            started = time.perf_counter()
            llama.answer(build_prompt(request, loaded.tokenizer, loaded.config.context_length).tokens, TOKENS)
            seconds[LlamaCpp.name].append(time.perf_counter() - started)
    ours.close()
    result: dict[str, Any] = {
        "requests": args.requests,
        "total_s": {name: sum(values) for name, values in seconds.items()},
        "p50_ms": {name: statistics.median(values) * 1e3 for name, values in seconds.items() if values},
        "fresh_tokens_p50": statistics.median(fresh),
        "prefix_hit_percent": 100 * cached / prompts,
        "threads": args.threads,
        "speculation": args.speculation,
    }
    print(f"| {args.requests} requests of {TOKENS} tokens | {Ours.name} | {LlamaCpp.name} | ratio |")
    print("|---|---|---|---|")
    for key in ("total_s", "p50_ms"):
        values = result[key]
        peer = values.get(LlamaCpp.name)
        cells = f"{peer:.1f} | {peer / values[Ours.name]:.2f}" if peer else f"{llama} | "
        print(f"| {key} | {values[Ours.name]:.1f} | {cells} |")
    print(f"| newly prefilled tokens a request, median | {result['fresh_tokens_p50']:.0f} | | |")
    print(f"| prompt tokens found in the prefix cache | {result['prefix_hit_percent']:.1f} % | | |")
    write_weights(args.work)
    result["http"] = over_http = replay(args.work, args.threads, requests, args.seconds)
    for way, count in over_http["requests"].items():
        mine, theirs = over_http["ways"][way].values()
        totals = f"{mine['total_s']:.1f} | {theirs['total_s']:.1f} | {theirs['total_s'] / mine['total_s']:.2f}"
        print(f"| over HTTP, {way}, {count} requests, s | {totals} |")
    record.write("replay", result, args.results)
    if isinstance(llama, str):
        sys.exit(f"not measured: llama.cpp is {llama}; pip install --constraint constraints.txt -e '.[bench]'")


if __name__ == "__main__":
    main()
