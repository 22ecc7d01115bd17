"""The engine on the bundled model beside its plain twin: the same weights in float32, no prefix reuse.

Types into a file character by character, completes a line at each, and prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

import torch

from inference_service.backends.local import LocalBackend
from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import CompletionRequest
from inference_service.model import directory
from inference_service.model.location import resolve

FILE = Path(__file__).with_name("unseen.py")
TOKENS = 16


def requests(count: int) -> list[CompletionRequest]:
    """`count` keystrokes from the middle of FILE on."""
    text = FILE.read_text(encoding="utf-8")
    start = len(text) // 2
    return [
        CompletionRequest(text[:end], suffix=text[start + count :], path=FILE.name, max_tokens=TOKENS, mode="line")
        for end in range(start, start + count)
    ]


async def engine(model: str, keystrokes: list[CompletionRequest]) -> dict[str, float]:
    backend = LocalBackend(model)
    await backend.start()
    latencies, fresh, tokens, decoding = [], [], 0, 0.0
    for request in keystrokes:
        started = time.perf_counter()
        async for chunk in backend.complete(request):
            last = chunk
        latencies.append((time.perf_counter() - started) * 1e3)
        assert last.stats is not None
        fresh.append(last.stats.prompt_tokens - last.stats.cached_tokens)
        tokens += last.stats.completion_tokens
        decoding += last.stats.decode_ms
    await backend.stop()
    return summary(latencies) | {
        "fresh_tokens_p50": statistics.median(fresh),
        "decode_tokens_per_s": tokens / decoding * 1e3,
    }


@torch.inference_mode()
def plain_twin(model: str, keystrokes: list[CompletionRequest]) -> dict[str, float]:
    loaded = directory.load(resolve(model))
    gpt, latencies, tokens, decoding = loaded.build_float(), [], 0, 0.0
    for request in keystrokes:
        started = time.perf_counter()
        prompt = build_prompt(request, loaded.tokenizer, loaded.config.context_length).tokens
        out: list[int] = []
        while len(out) < TOKENS:
            token = int(gpt(torch.tensor([prompt + out]))[0, -1].argmax())
            if loaded.tokenizer.is_sentinel(token) or b"\n" in loaded.tokenizer.token_bytes(token):
                break
            out.append(token)
        latencies.append((time.perf_counter() - started) * 1e3)
        tokens += len(out) + 1
        decoding += latencies[-1]
    return summary(latencies) | {"decode_tokens_per_s": tokens / decoding * 1e3}


def summary(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {"p50_ms": statistics.median(ordered), "p95_ms": ordered[int(len(ordered) * 0.95)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--keystrokes", type=int, default=120)
    args = parser.parse_args()
    keystrokes = requests(args.keystrokes)
    ours = asyncio.run(engine(args.model, keystrokes))
    twin = plain_twin(args.model, keystrokes[:: max(1, len(keystrokes) // 20)])
    print(f"| {args.keystrokes} keystrokes, line of up to {TOKENS} tokens | engine | plain twin | ratio |")
    print("|---|---|---|---|")
    for key, value in ours.items():
        peer = twin.get(key)
        print(f"| {key} | {value:.1f} |" + (" | |" if peer is None else f" {peer:.1f} | {value / peer:.2f} |"))
    print(
        json.dumps({"engine": ours, "plain_twin": twin, "threads": torch.get_num_threads(), "torch": torch.__version__})
    )


if __name__ == "__main__":
    main()
