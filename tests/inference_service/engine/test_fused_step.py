"""The compiled CPU step computes what the operators compute, for every variant of the decoder."""

import copy
import dataclasses
from types import SimpleNamespace

import pytest
import torch

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.runner import BLOCK_SIZE, Runner
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.quantize import dequantize_rows, quantize_rows

OWN = GPTConfig(300, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_ff=48, context_length=96)
FOREIGN = {
    "logit_softcap": 0.0, "embedding_norm": False, "qk_norm": False, "norm_affine": True, "norm_eps": 1e-5,
    "tied_head": False,
}  # fmt: skip
VARIANTS = {
    "own": {},
    "bigrams": {"bigram_rows": 64},
    "gpt2": FOREIGN | {
        "positions": "learned", "norm": "layer", "activation": "gelu_tanh", "n_kv_head": 4, "tied_head": True,
        "qkv_bias": True, "out_bias": True, "mlp_bias": True,
    },
    "starcoder2": FOREIGN | {"norm": "layer", "activation": "gelu", "qkv_bias": True, "mlp_bias": True},
    "qwen2": FOREIGN | {"activation": "swiglu", "qkv_bias": True, "head_dim": 16},
}  # fmt: skip


@pytest.fixture(params=VARIANTS)
def runner(request):
    """A runner over random int8 weights, computing all else in float32."""
    config = dataclasses.replace(OWN, **{"head_dim": 0} | VARIANTS[request.param])
    model = GPT(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    int8 = {}
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if parameter.dim() == 2 and not name.startswith("positions"):
            int8[name] = quantize_rows(parameter)
            parameter.copy_(dequantize_rows(*int8[name]))
    loaded = SimpleNamespace(config=config, int8=int8, build_float=lambda: copy.deepcopy(model).eval())
    runner = Runner(loaded, "cpu", 1)
    assert runner.tuned.wait(100)
    assert runner._fused is not None
    runner._model = model
    return runner


def steps(runner, prompts, max_tokens):
    """All logits that a scheduler's steps over `prompts` produce, five greedy tokens each."""
    scheduler = Scheduler(BlockManager(runner.num_blocks, BLOCK_SIZE), max_tokens, 8)
    for prompt in prompts:
        scheduler.add(Sequence(list(prompt)))
    while scheduler.num_waiting or scheduler.running:
        step = scheduler.schedule()
        runner.copy(step.copies)
        logits = iter(runner.forward(step.work))
        for work in step.work:
            rows = [next(logits) for _ in range(work.logits)]
            yield from ((tuple(work.sequence.tokens), row) for row in rows)
            scheduler.complete(work, [int(row.argmax()) for row in rows])
            if len(work.sequence.tokens) >= 40:
                scheduler.remove(work.sequence)


@pytest.mark.parametrize("fused_tokens", [0, 1000])
@torch.inference_mode()
def test_logits_are_those_of_the_naive_full_forward(runner, fused_tokens):
    runner._fused_tokens = fused_tokens
    prompts = [[i * n % 300 for i in range(1, 36)] for n in (7, 7, 11)] + [[5] * 20]
    for max_tokens in (64, 9):
        for tokens, row in steps(runner, prompts, max_tokens):
            expected = runner._model(torch.tensor([tokens]))[0, -1]
            torch.testing.assert_close(row, expected, atol=2e-4, rtol=2e-4)
