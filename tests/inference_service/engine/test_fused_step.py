"""The compiled CPU step computes what the operators compute, for every variant of the decoder."""

from types import SimpleNamespace

import pytest
import torch

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.cpu_kernels import by_operators
from inference_service.engine.kernels.fused import FusedStep
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.runner import BLOCK_SIZE, Runner
from inference_service.engine.sampler import pick_greedy, to_host
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence

PROMPTS = [[i * n % 300 for i in range(1, 36)] for n in (7, 7, 11)] + [[5] * 20]


@pytest.fixture
def loaded(random_model):
    """The random model as if it was read from a directory."""
    model, int8 = random_model.model, random_model.int8
    floats = {name: parameter.detach() for name, parameter in model.named_parameters() if name not in int8}
    return SimpleNamespace(config=random_model.config, int8=int8, floats=floats, build_float=lambda: model)


def steps(compute, config, max_tokens, dtype=torch.bfloat16):
    """All logits that a scheduler's steps over PROMPTS produce, five greedy tokens each, and the tokens before them."""
    pool = KVPool(config, 40, BLOCK_SIZE, torch.device("cpu"), dtype)
    scheduler = Scheduler(BlockManager(40, BLOCK_SIZE), max_tokens, 8)
    for prompt in PROMPTS:
        scheduler.add(Sequence(list(prompt)))
    while scheduler.num_waiting or scheduler.running:
        step = scheduler.schedule()
        pool.copy(step.copies)
        logits = iter(compute(step.work, pool))
        for work in step.work:
            rows = [next(logits) for _ in range(work.logits)]
            yield from ((tuple(work.sequence.tokens), row) for row in rows)
            scheduler.complete(work, [int(row.argmax()) for row in rows])
            if len(work.sequence.tokens) >= 40:
                scheduler.remove(work.sequence)


@pytest.mark.parametrize("max_tokens", [64, 9, 5])
@pytest.mark.parametrize("way", ["operators", "one thread", "two threads"])
@torch.inference_mode()
def test_logits_are_those_of_the_naive_full_forward(loaded, way, max_tokens):
    model = loaded.build_float()
    if way == "operators":
        ways = [lambda work, pool: by_operators(model, work, pool)]
    else:
        fused = FusedStep(loaded.config, loaded.floats, loaded.int8, 1 if way == "one thread" else 2)
        ways = fused.ways().values()
    # the compiled step keeps keys and values in bfloat16, whose precision is 1 in 256, and rounds inputs to it
    tolerance, dtype = (2e-5, torch.float32) if way == "operators" else (0.01, torch.bfloat16)
    for compute in ways:
        for tokens, row in steps(compute, loaded.config, max_tokens, dtype):
            expected = model(torch.tensor([tokens]))[0, -1]
            assert (row - expected).norm() < tolerance * expected.norm()


@torch.inference_mode()
def test_the_compiled_choice_of_greedy_tokens_is_that_of_the_operators(loaded):
    fused = FusedStep(loaded.config, loaded.floats, loaded.int8, 1)
    generator = torch.Generator().manual_seed(0)
    for size in (1, 17, 300, 50257):
        logits = torch.randn(5, size, generator=generator) * 6
        logits[3] = logits[3].round()  # where several are the highest, the first one counts
        tokens, logprobs = fused.pick_greedy(logits)
        expected, expected_logprobs = pick_greedy(logits)
        assert tokens.tolist() == expected.tolist()
        assert torch.allclose(logprobs, expected_logprobs, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf")])
@torch.inference_mode()
def test_a_row_that_is_not_finite_is_told_by_its_log_probability(loaded, bad):
    fused = FusedStep(loaded.config, loaded.floats, loaded.int8, 1)
    logits = torch.zeros(2, 300)
    logits[0, 7], logits[1, 5] = bad, 1
    one, other = to_host(fused.pick_greedy(logits))
    assert one.logprob != one.logprob
    assert other.token == 5


@torch.inference_mode()
def test_a_runner_computes_the_model_before_and_after_it_has_chosen_its_kernels(loaded, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = loaded.build_float()
    runner = Runner(loaded, "cpu", 2)
    tuned_after = [False, True]
    for wait in tuned_after:
        assert not wait or runner.tuned.wait(110)
        for tokens, row in steps(lambda work, _: runner.forward(work), loaded.config, 20):
            expected = model(torch.tensor([tokens]))[0, -1]
            assert (row - expected).norm() < 0.1 * expected.norm()  # the operators use int8 activations
    assert list((tmp_path / "midfill").glob("kernels-*.json"))
    assert "numba" in runner.kernel or "operators" in runner.kernel
