"""The compiled CPU step computes what the operators compute, for every variant of the decoder."""

import copy
from types import SimpleNamespace

import pytest
import torch

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.runner import BLOCK_SIZE, Runner
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence


@pytest.fixture
def runner(random_model):
    """A runner over random int8 weights, computing all else in float32."""
    config, int8, model = random_model.config, random_model.int8, random_model.model
    loaded = SimpleNamespace(config=config, int8=int8, build_float=lambda: copy.deepcopy(model))
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
