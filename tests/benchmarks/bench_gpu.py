"""One GPU: decoding, prefill, one completion and a team of editors, beside a compiled plain twin and transformers.

Random weights in the shape of GPT-2 small (124M) and the same with a quarter of the key/value heads. Every figure of
ours stands beside the share of the memory's bandwidth that it reaches (MBU, int8 weights and cache read once a step)
and beside the share of what launches alone would allow (1.3 microseconds a kernel, as in CUDA graphs). Prints a table
and writes a result. `--smoke` runs tiny shapes, on a CPU too: it shows that the script works and nothing else.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from inference_service.engine.block_manager import Lease
from inference_service.engine.engine import Engine
from inference_service.engine.request import CompletionRequest
from inference_service.engine.runner import BLOCK_SIZE, Runner
from inference_service.engine.sampler import Row, Sampling
from inference_service.engine.scheduler import Work
from inference_service.engine.sequence import Sequence
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.loading import load
from inference_service.model.location import resolve
from tests.benchmarks import record

LAUNCH_SECONDS = 1.3e-6
KERNELS_A_LAYER, OTHER_KERNELS = 7, 14
FILE = Path(__file__).with_name("unseen.py")
GPT2 = {
    "positions": "learned", "norm": "layer", "norm_affine": True, "norm_eps": 1e-5, "activation": "gelu_tanh",
    "embedding_norm": False, "qk_norm": False, "logit_softcap": 0.0, "qkv_bias": True, "out_bias": True,
    "mlp_bias": True,
}  # fmt: skip


def shapes(smoke: bool, vocabulary: int) -> tuple[GPTConfig, GPTConfig]:
    """GPT-2 small, and our recipe of the same size with grouped queries and the bundled vocabulary."""
    if smoke:
        gpt2 = GPTConfig(512, 2, 4, 4, 64, 128, 256, **GPT2)
        return gpt2, GPTConfig(vocabulary, 2, 4, 1, 64, 128, 256)
    return GPTConfig(50257, 12, 12, 12, 768, 3072, 1024, **GPT2), GPTConfig(vocabulary, 12, 12, 3, 768, 3072, 2048)


def build(config: GPTConfig) -> GPT:
    model = GPT(config).requires_grad_(False).eval()
    model.init_weights(seed=0)
    return model


def runner_of(config: GPTConfig, device: str, kv_cache: str) -> Runner:
    model = build(config)
    loaded: Any = SimpleNamespace(config=config, int8={}, build_float=lambda: model)
    runner = Runner(loaded, device, 0, kv_cache)
    runner.tuned.wait()
    return runner


def seconds(function: Callable[[], object], device: str, times: int) -> float:
    """Median of `times` runs after three."""
    for _ in range(3):
        function()
    measured = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        measured.append(time.perf_counter() - started)
    return statistics.median(measured)


def work_of(count: int, context: int, new: int) -> list[Work]:
    """`count` sequences that have `context` tokens and get `new` more."""
    blocks = -(-(context + new) // BLOCK_SIZE)
    return [
        Work(
            Sequence([1] * (context + new), lease=Lease(list(range(n * blocks, (n + 1) * blocks)), 0, 0)),
            context,
            [7] * new,
            1,
        )
        for n in range(count)
    ]


def ours(runner: Runner, batch: int, context: int, new: int, times: int) -> dict[str, float]:
    work = work_of(batch, context, new)
    rows = [Row(Sampling(), 0)] * batch
    step = seconds(lambda: runner.launch(work, rows).result(), runner.device.type, times)
    floor = (KERNELS_A_LAYER * runner.config.n_layer + OTHER_KERNELS) * LAUNCH_SECONDS
    return {
        "ms": step * 1e3,
        "tokens_per_s": batch * new / step,
        "mbu": runner.bytes_read(work) / step / runner.bandwidth,
        "launch_floor": floor / step,
    }


class StaticCache:
    """Contiguous keys and values for a compiled twin: no shape changes from step to step."""

    def __init__(self, config: GPTConfig, batch: int, capacity: int, device: str, dtype: torch.dtype) -> None:
        shape = (config.n_layer, batch, config.n_kv_head, capacity, config.head_dim)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros_like(self._keys)
        self._seen = torch.arange(capacity, device=device)
        self.positions = torch.zeros(1, dtype=torch.long, device=device)

    def begin(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.positions, torch.zeros_like(tokens)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._keys[layer].index_copy_(2, self.positions, k)
        self._values[layer].index_copy_(2, self.positions, v)
        mask = self._seen <= self.positions[:, None]
        return F.scaled_dot_product_attention(
            q, self._keys[layer], self._values[layer], attn_mask=mask, enable_gqa=True
        )

    def end(self, tokens: Tensor) -> None:
        pass


def compiled_twin(config: GPTConfig, device: str, batch: int, context: int, new: int, times: int, smoke: bool) -> float:
    """Seconds of a step of the plain model, compiled with CUDA graphs (not compiled in a smoke run)."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = build(config).to(device, dtype)
    cache = StaticCache(config, batch, context + new, device, dtype)
    cache.positions = torch.arange(context, context + new, device=device)
    tokens = torch.full((batch, new), 7, device=device)

    def step() -> Tensor:
        return model.head(model.hidden(tokens, cache)[:, -1]).argmax(-1)

    run = step if smoke else torch.compile(step, mode="reduce-overhead")
    return seconds(lambda: run().tolist(), device, times)


def transformers_twin(config: GPTConfig, device: str, batch: int, context: int, new: int, times: int) -> float:
    """Seconds of a step of transformers' GPT-2 in the same shape."""
    from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    shape = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.context_length, n_embd=config.d_model, n_layer=config.n_layer,
        n_head=config.n_head, n_inner=config.d_ff, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).to(device, dtype).eval()
    cache = DynamicCache(config=shape)
    if context:
        model(torch.full((batch, context), 7, device=device), past_key_values=cache)
    tokens = torch.full((batch, new), 7, device=device)

    def step() -> object:
        chosen = model(tokens, past_key_values=cache, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
        cache.crop(-new)
        return chosen

    return seconds(step, device, times)


class Asked:
    """One completion, waited for."""

    def __init__(self, engine: Engine, request: CompletionRequest) -> None:
        started = time.perf_counter()
        ended = threading.Event()

        def emit(chunk: Any) -> None:
            if chunk.finish_reason:
                ended.set()

        engine.submit(request, emit)
        ended.wait()
        self.seconds = time.perf_counter() - started


def editors(engine: Engine, count: int, duration: float) -> list[float]:
    """Seconds of the completions of `count` people who type at their own places of a file."""
    text = FILE.read_text(encoding="utf-8")
    latencies: list[float] = []
    stop = time.monotonic() + duration

    def person(number: int) -> None:
        choose = random.Random(number)
        cursor = choose.randrange(len(text) // 4, len(text) // 2)
        time.sleep(choose.random() * 0.3)
        while time.monotonic() < stop:
            request = CompletionRequest(
                f"# {number}\n" + text[:cursor],
                text[cursor + 50 :],
                max_tokens=32,
                session=f"s{number}",
                user=str(number),
            )
            latencies.append(Asked(engine, request).seconds)
            cursor += 1
            time.sleep(0.15 + choose.random() * 0.15)

    people = [threading.Thread(target=person, args=(number,)) for number in range(count)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    return latencies


def through_the_engine(config: GPTConfig, device: str, smoke: bool) -> dict[str, dict[str, float]]:
    tokenizer = load(resolve("nano")).tokenizer
    engine = Engine(runner_of(config, device, "auto"), tokenizer)
    request = CompletionRequest("def add(a, b):\n" * 20, max_tokens=32)
    single = statistics.median(Asked(engine, request).seconds for _ in range(3 if smoke else 50))
    count = 4 if smoke else 128
    latencies = sorted(editors(engine, count, 2 if smoke else 20))
    engine.stop()
    return {
        "completion of 32 tokens": {"ms": single * 1e3},
        f"{count} editors, p50": {"ms": statistics.median(latencies) * 1e3},
        f"{count} editors, p95": {"ms": latencies[int(len(latencies) * 0.95)] * 1e3, "completions": len(latencies)},
    }


@torch.inference_mode()
def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes: does the script run?")
    args = parser.parse_args()
    device, smoke = args.device, args.smoke
    gpt2, grouped = shapes(smoke, load(resolve("nano")).config.vocab_size)
    batch, context, prompt, times = (4, 32, 64, 3) if smoke else (128, 512, 1000, 100)
    results: dict[str, dict[str, float]] = {}
    runner = runner_of(gpt2, device, "float")
    kernel = runner.kernel
    for name, b, c, new in (
        ("decode, batch 1", 1, context, 1),
        (f"decode, batch {batch} at {context}", batch, context, 1),
        (f"prefill of {prompt}", 1, 0, prompt),
    ):
        row = results[name] = ours(runner, b, c, new, times)
        row["compiled_twin_ms"] = compiled_twin(gpt2, device, b, c, new, times, smoke) * 1e3
        row["transformers_ms"] = transformers_twin(gpt2, device, b, c, new, times) * 1e3
    del runner
    results[f"decode, batch {batch} at {context}, grouped queries, int8 cache"] = ours(
        runner_of(grouped, device, "int8"), batch, context, 1, times
    )
    results |= through_the_engine(grouped, device, smoke)
    columns = ("ms", "tokens_per_s", "mbu", "launch_floor", "compiled_twin_ms", "transformers_ms")
    print(f"| {kernel} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in results.items():
        print(f"| {name} | {' | '.join(f'{row[key]:.4g}' if key in row else '' for key in columns)} |")
    if not smoke:
        record.write("gpu", {"kernel": kernel, "rows": results}, args.results)


if __name__ == "__main__":
    main()
