"""The int8 KV cache: a quarter of the memory, and next to no cost in what the model writes."""

import math
from pathlib import Path

import pytest
import torch

from inference_service.backends.local import LocalBackend
from inference_service.engine.block_manager import Copy, Lease
from inference_service.engine.engine import Engine
from inference_service.engine.kv_pool import KVPool, PagedBatch, quantize_heads, token_bytes
from inference_service.engine.request import CompletionRequest
from inference_service.engine.runner import Runner
from inference_service.engine.scheduler import Work
from inference_service.engine.sequence import Sequence
from inference_service.model.gpt import GPTConfig
from inference_service.model.loading import load
from inference_service.model.location import resolve

UNSEEN = Path(__file__).parents[2] / "benchmarks" / "unseen.py"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nano():
    return load(resolve("nano"))


def bits_per_byte(loaded, text, dtype):
    """In chunks, so that later tokens attend to what was written to the cache before."""
    model, tokens = loaded.build_float(), [*loaded.tokenizer.begin, *loaded.tokenizer.encode(text)]
    tokens = tokens[: loaded.config.context_length]
    pool = KVPool(loaded.config, 1, len(tokens), CPU, dtype)
    sequence = Sequence(tokens, lease=Lease([0], 0, 0))
    nats = 0.0
    for start in range(0, len(tokens) - 1, 64):
        chunk = tokens[start : min(start + 64, len(tokens) - 1)]
        states = model.hidden(torch.tensor([chunk]), PagedBatch(pool, [Work(sequence, start, chunk, 0)]))
        targets = torch.tensor(tokens[start + 1 : start + 1 + len(chunk)])
        nats += float(torch.nn.functional.cross_entropy(model.head(states[0]), targets, reduction="sum"))
    length = sum(len(loaded.tokenizer.token_bytes(token)) for token in tokens)
    return nats / math.log(2) / length


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 1.0005), (torch.int8, 1.002)])
def test_what_keys_and_values_are_kept_as_costs_few_bits_per_byte(nano, dtype, allowed):
    text = UNSEEN.read_text(encoding="utf-8")
    plain, kept = (bits_per_byte(nano, text, kind) for kind in (torch.float32, dtype))
    assert 0.5 < plain < 3
    assert kept <= plain * allowed


def test_rounding_errors_are_within_half_a_step_of_each_head():
    x = torch.randn(50, 3, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-4, 1.0, 300.0])[:, None]
    values, scales = quantize_heads(x)
    error = (values * scales[..., None].float() - x).abs()
    assert bool((error <= 0.51 * scales[..., None].float() + 1e-6).all())
    assert not quantize_heads(torch.zeros(1, 1, 4))[0].any()


def test_a_token_takes_a_quarter_of_float32_and_half_of_bfloat16():
    config = GPTConfig(10, n_layer=2, n_head=4, n_kv_head=2, d_model=8, d_ff=8, context_length=64, head_dim=64)
    sizes = {dtype: token_bytes(config, dtype) for dtype in (torch.float32, torch.bfloat16, torch.int8)}
    assert sizes[torch.int8] < 0.26 * sizes[torch.float32] and sizes[torch.int8] < 0.52 * sizes[torch.bfloat16]
    for dtype, size in sizes.items():
        pool = KVPool(config, 3, 16, CPU, dtype)
        parts = (pool.keys, pool.values, pool.key_scales, pool.value_scales)
        assert sum(part.nbytes for part in parts) == 4 * 16 * size  # and the scratch block


def test_copies_take_the_scales_along():
    config = GPTConfig(10, n_layer=1, n_head=1, n_kv_head=1, d_model=8, d_ff=8, context_length=64, head_dim=8)
    pool = KVPool(config, 3, 4, CPU, torch.int8)
    k, v = torch.randn(4, 1, 8), torch.randn(4, 1, 8) * 9
    pool.write(0, torch.arange(4), k, v)
    pool.copy([Copy(0, 2, 3)])
    expected, copied = (pool.read(0, torch.tensor(slots), torch.float32) for slots in ([0, 1, 2], [8, 9, 10]))
    assert all(map(torch.equal, expected, copied)) and expected[1].any()


def greedy(ask, nano, kv_cache, prompts):
    runner = Runner(nano, "cpu", 1, kv_cache)
    engine = Engine(runner, nano.tokenizer)
    texts = [ask(engine, prompt=prompt, suffix="", max_tokens=16, mode="line").result()[0] for prompt in prompts]
    engine.stop()
    return texts, runner


def test_greedy_lines_mostly_agree_and_far_more_tokens_fit(nano, ask):
    lines = UNSEEN.read_text(encoding="utf-8").splitlines(keepends=True)
    prompts = ["".join(lines[:n]) + "    " for n in range(10, 40, 4)]
    plain, float_runner = greedy(ask, nano, "float", prompts)
    quantized, runner = greedy(ask, nano, "int8", prompts)
    assert sum(a == b for a, b in zip(plain, quantized, strict=True)) >= 0.8 * len(prompts)
    assert runner.cache_tokens > 1.8 * float_runner.cache_tokens
    assert runner.cache_type.startswith("int8")


async def test_info_tells_what_the_cache_is_and_how_much_it_holds(tiny_model_dir):
    backend = LocalBackend(str(tiny_model_dir), device="cpu", kv_cache="int8")
    await backend.start()
    chunks = [chunk async for chunk in backend.complete(CompletionRequest("def f(x):\n", max_tokens=4))]
    info = backend.info()
    await backend.stop()
    assert chunks[-1].finish_reason == "length"
    assert info["kv_cache"].startswith("int8") and info["kv_cache_tokens"] > 100_000
