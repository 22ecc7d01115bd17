"""The step of rows, over static buffers and a ladder of sizes, computes what a naive forward pass computes."""

import os

import pytest
import torch

from inference_service.engine.block_manager import BlockManager, Lease
from inference_service.engine.cuda_graphs import uncaptured
from inference_service.engine.kernels import plain
from inference_service.engine.kernels.row_step import RowStep
from inference_service.engine.kv_pool import KVPool, PagedBatch
from inference_service.engine.sampler import Row, Sampling, pick, to_host
from inference_service.engine.scheduler import Scheduler, Work, wanted_rows
from inference_service.engine.sequence import Sequence
from inference_service.engine.static_step import SIZES, StaticStep, agrees

SIZE = 16
CPU = torch.device("cpu")


def static_step(random_model, dtype=torch.float32, sizes=SIZES[:7], kernels=plain):
    config, parameters = random_model.config, dict(random_model.model.named_parameters())
    pool = KVPool(config, 40, SIZE, CPU, dtype)
    rows = RowStep(config, parameters, random_model.int8, kernels, CPU)
    return StaticStep(rows, pool, config.context_length, uncaptured, sizes), pool


@torch.inference_mode()
def test_greedy_text_of_a_batch_is_that_of_the_naive_forward(random_model):
    step, pool = static_step(random_model)
    scheduler = Scheduler(BlockManager(pool.num_blocks, SIZE), step.max_tokens, 8)
    for prompt in ([i * n % 300 for i in range(1, 36)] for n in (7, 7, 11, 13)):
        scheduler.add(Sequence(prompt))
    sizes = set()
    while scheduler.num_waiting or scheduler.running:
        scheduled = scheduler.schedule()
        pool.copy(scheduled.copies)
        logits, greedy = step.compute(scheduled.work)
        sizes.add(scheduled.num_tokens)
        sampled = iter(to_host(pick(logits, [Row(Sampling(), 0)] * len(logits), greedy)))
        rows = iter(logits)
        for work in scheduled.work:
            tokens = []
            for _ in range(work.logits):
                expected = random_model.model(torch.tensor([work.sequence.tokens]))[0, -1]
                torch.testing.assert_close(next(rows), expected, atol=2e-4, rtol=2e-4)
                one = next(sampled)
                assert one.token == int(expected.argmax())
                assert one.logprob == pytest.approx(float(expected.log_softmax(-1).max()), abs=1e-3)
                tokens.append(one.token)
            scheduler.complete(work, tokens)
            if len(work.sequence.tokens) >= 40:
                scheduler.remove(work.sequence)
    assert len(sizes) > 3  # padded to several sizes


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_guesses_are_verified_and_padding_changes_nothing(random_model, dtype):
    prompt = [i * 7 % 300 for i in range(1, 36)]
    expected = None
    for sizes in ((64,), (35, 64)):
        step, _ = static_step(random_model, dtype, sizes)
        sequence = Sequence(prompt, lease=Lease([5, 3, 9], 0, 0))
        work = [Work(sequence, 0, prompt, len(prompt), drafted=3)]
        logits, _ = step.compute(work)
        assert len(logits) == len(prompt)
        assert expected is None or torch.allclose(logits, expected, atol=1e-5)
        expected = logits
        # the model as torch computes it, over the same kind of cache
        twin = KVPool(random_model.config, 40, SIZE, CPU, dtype)
        states = random_model.model.hidden(torch.tensor([prompt]), PagedBatch(twin, work))
        torch.testing.assert_close(logits, random_model.model.head(states[0, wanted_rows(work)]), atol=2e-3, rtol=2e-3)


@torch.inference_mode()
def test_a_step_that_computes_something_else_is_found_out(random_model):
    step, pool = static_step(random_model)

    def operators(work, pool):
        states = random_model.model.hidden(torch.tensor([work[0].tokens]), PagedBatch(pool, work))
        return random_model.model.head(states[0])

    assert agrees(step, operators, pool)
    assert not agrees(step, lambda work, pool: operators(work, pool).flip(0), pool)


@torch.inference_mode()
def test_the_triton_kernels_compute_the_same_step(random_model):
    if os.environ.get("CI") != "true":
        pytest.importorskip("triton", reason="Triton is missing (Linux on x86-64 only): pip install triton")
    from inference_service.engine.kernels import triton_kernels

    (step, _), (twin, _) = (static_step(random_model, torch.int8, (2,), kernels) for kernels in (triton_kernels, plain))
    sequences = [Sequence([0], lease=Lease([n], 0, 0)) for n in range(2)]
    for at in range(2):
        work = [Work(one, at, [7 * at + n], 1) for n, one in enumerate(sequences)]
        for one in sequences:
            one.tokens = [*one.tokens[:at], 0, 0]
        torch.testing.assert_close(step.compute(work)[0], twin.compute(work)[0], atol=5e-3, rtol=5e-3)
