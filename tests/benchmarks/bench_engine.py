"""A typing session through the engine, on the bundled model, beside two peers on the same weights and trace.

The trace types into a file character by character, takes some characters back, jumps elsewhere and returns, and asks
for a line at each step. Peers, both ours and plain: the operators of torch with a KV cache that keeps the longest
common prefix of the last prompt (what llama.cpp's server does for a slot), and a full forward pass a token.
Prints a table and writes a result.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from inference_service.backends.local import LocalBackend
from inference_service.engine.block_manager import common_prefix
from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import CompletionRequest
from inference_service.model.directory import LoadedModel
from inference_service.model.kv_cache import KVCache
from inference_service.model.loading import load
from inference_service.model.location import resolve
from tests.benchmarks import record

FILE = Path(__file__).with_name("unseen.py")
TOKENS = 16


def trace(count: int) -> Iterator[CompletionRequest]:
    """`count` requests: mostly typing, one in 12 a character taken back, one in 40 a jump to another line."""
    text, choose = FILE.read_text(encoding="utf-8"), random.Random(0)
    cursor = len(text) // 2
    home = None
    for _ in range(count):
        action = choose.random()
        if home is not None:
            cursor, home = home, None
        elif action < 1 / 40:
            home, cursor = cursor, choose.randrange(len(text) // 4, len(text) // 2)
        elif action < 1 / 40 + 1 / 12:
            cursor -= 1
        else:
            cursor += 1
        line_end = text.find("\n", cursor)
        yield CompletionRequest(text[:cursor], text[line_end:], FILE.name, max_tokens=TOKENS, mode="line")


async def engine(model: str, requests: list[CompletionRequest]) -> dict[str, float]:
    backend = LocalBackend(model)
    await backend.start()
    latencies, fresh, tokens, prompt, cached, decoding = [], [], 0, 0, 0, 0.0
    for request in requests:
        started = time.perf_counter()
        async for chunk in backend.complete(request):
            last = chunk
        latencies.append((time.perf_counter() - started) * 1e3)
        assert last.stats is not None
        fresh.append(last.stats.prompt_tokens - last.stats.cached_tokens)
        prompt, cached = prompt + last.stats.prompt_tokens, cached + last.stats.cached_tokens
        tokens += last.stats.completion_tokens
        decoding += last.stats.decode_ms
    print(backend.info()["kernel"])
    await backend.stop()
    return summary(latencies) | {
        "fresh_tokens_p50": statistics.median(fresh),
        "prefix_hit_percent": 100 * cached / prompt,
        "decode_tokens_per_s": tokens / decoding * 1e3,
    }


Step = Callable[[list[int]], torch.Tensor]


def peer(loaded: LoadedModel, requests: list[CompletionRequest], step: Step) -> dict[str, float]:
    """Greedy lines by `step`, which turns all tokens so far into the logits of the next."""
    latencies, tokens, decoding = [], 0, 0.0
    for request in requests:
        started = time.perf_counter()
        prompt = build_prompt(request, loaded.tokenizer, loaded.config.context_length).tokens
        out = [int(step(prompt).argmax())]
        first = time.perf_counter()
        while len(out) < TOKENS:
            if loaded.tokenizer.is_sentinel(out[-1]) or b"\n" in loaded.tokenizer.token_bytes(out[-1]):
                break
            out.append(int(step(prompt + out).argmax()))
        latencies.append((time.perf_counter() - started) * 1e3)
        tokens += len(out) - 1
        decoding += (time.perf_counter() - first) * 1e3
    return summary(latencies) | {"decode_tokens_per_s": tokens / decoding * 1e3}


def one_slot(loaded: LoadedModel) -> Step:
    c = loaded.config
    gpt = loaded.build_float()
    cache = KVCache(c.n_layer, c.n_kv_head, c.head_dim, c.context_length, torch.device("cpu"), torch.float32)
    held: list[int] = []

    def step(tokens: list[int]) -> torch.Tensor:
        cache.length = min(common_prefix(held, tokens), len(tokens) - 1)
        logits = gpt.head(gpt.hidden(torch.tensor([tokens[cache.length :]]), cache)[0, -1:])[0]
        held[:] = tokens
        return logits

    return step


def no_cache(loaded: LoadedModel) -> Step:
    gpt = loaded.build_float()
    return lambda tokens: gpt(torch.tensor([tokens]))[0, -1]


def summary(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {"p50_ms": statistics.median(ordered), "p95_ms": ordered[int(len(ordered) * 0.95)]}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--requests", type=int, default=300)
    args = parser.parse_args()
    requests = list(trace(args.requests))
    ours = asyncio.run(engine(args.model, requests))
    loaded = load(resolve(args.model))
    with torch.inference_mode():
        slot = peer(loaded, requests[:: max(1, len(requests) // 100)], one_slot(loaded))
        twin = peer(loaded, requests[:: max(1, len(requests) // 15)], no_cache(loaded))
    print(
        f"| {args.requests} requests, lines of up to {TOKENS} tokens | ours | one KV slot | ratio | no cache | ratio |"
    )
    print("|---|---|---|---|---|---|")
    for key, value in ours.items():
        cells = [f"{p[key]:.1f} | {value / p[key]:.2f}" if key in p else " | " for p in (slot, twin)]
        print(f"| {key} | {value:.1f} | {' | '.join(cells)} |")
    figures = {"requests": args.requests, "tokens": TOKENS, "threads": torch.get_num_threads()}
    record.write("engine", {"engine": ours, "one_slot": slot, "no_cache": twin, **figures}, args.results)


if __name__ == "__main__":
    main()
