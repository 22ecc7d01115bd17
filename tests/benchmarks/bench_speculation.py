"""What guessing ahead brings: a typing session through two engines in turns, one that guesses and one that does not.

Prints a table and writes a result. Steps are exact; times are as quiet as the machine.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

from inference_service.engine import engine as engine_module
from inference_service.engine.engine import Engine
from inference_service.engine.request import CompletionRequest
from inference_service.engine.runner import Runner
from inference_service.model.loading import load
from inference_service.model.location import resolve
from tests.benchmarks import record
from tests.benchmarks.bench_engine import trace


class Side:
    """One engine and what it did."""

    def __init__(self, model: str, guessing: bool) -> None:
        loaded = load(resolve(model))
        runner = Runner(loaded, "cpu", 1)
        runner.tuned.wait()
        self._sequences = engine_module.SPECULATING_SEQUENCES if guessing else 0
        self.engine = Engine(runner, loaded.tokenizer)
        self.forget()

    def forget(self) -> None:
        """Count from here on."""
        self._before = self.engine.gauges()["step_device_seconds_count"]
        self.totals = {"steps": 0.0, "tokens": 0, "seconds": 0.0, "decode_ms": 0.0}

    def complete(self, request: CompletionRequest) -> str:
        engine_module.SPECULATING_SEQUENCES = self._sequences
        chunks: list[Any] = []
        ended = threading.Event()

        def emit(chunk: Any) -> None:
            chunks.append(chunk)
            if chunk.finish_reason:
                ended.set()

        started = time.perf_counter()
        self.engine.submit(request, emit)
        ended.wait()
        self.totals["seconds"] += time.perf_counter() - started
        self.totals["decode_ms"] += chunks[-1].stats.decode_ms
        self.totals["tokens"] += chunks[-1].stats.completion_tokens
        self.totals["steps"] = self.engine.gauges()["step_device_seconds_count"] - self._before
        return "".join(chunk.text for chunk in chunks)


def session(model: str, requests: list[CompletionRequest]) -> dict[str, Any]:
    sides = [Side(model, guessing=False), Side(model, guessing=True)]
    for side in sides:  # the first request pays for what happens once
        side.complete(requests[0])
        side.forget()
    same = 0
    for number, request in enumerate(requests):
        texts = [side.complete(request) for side in (sides if number % 2 else sides[::-1])]
        same += texts[0] == texts[1]
    for side in sides:
        side.engine.stop()
    plain, guessing = (side.totals for side in sides)
    ratios = {f"{key}_ratio": guessing[key] / plain[key] for key in ("steps", "seconds", "decode_ms")}
    return {"requests": len(requests), "same_text": same, "plain": plain, "guessing": guessing, **ratios}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--requests", type=int, default=200)
    args = parser.parse_args()
    lines = list(trace(args.requests))
    blocks = [dataclasses.replace(one, mode="block", max_tokens=48) for one in lines[: args.requests * 3 // 5]]
    without = engine_module.SPECULATING_SEQUENCES
    results = {}
    for name, requests in (("lines", lines), ("blocks", blocks)):
        engine_module.SPECULATING_SEQUENCES = without
        results[name] = session(args.model, requests)
    print("| | requests | same text | steps | with guesses | ratio | wall time, ratio | decoding, ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, one in results.items():
        steps = f"{one['plain']['steps']:.0f} | {one['guessing']['steps']:.0f} | {one['steps_ratio']:.2f}"
        ratios = f"{one['seconds_ratio']:.2f} | {one['decode_ms_ratio']:.2f}"
        print(f"| {name} | {one['requests']} | {one['same_text']} | {steps} | {ratios} |")
    record.write("speculation", results, args.results)


if __name__ == "__main__":
    main()
