"""The training loop: it learns, resumes bit for bit, divides its batches, survives bad steps, and tells how it goes."""

import dataclasses
import shutil
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.modules.module import register_module_forward_hook

from inference_service.model.gpt import GPT, GPTConfig
from tests.training.toy import MODEL, log_lines, losses, toy
from training import checkpoint
from training.batches import Batches, batch_number
from training.checkpoint import BadCheckpoint, Snapshot
from training.distributed import NoDevice, Ranks
from training.fim import RowSampler
from training.guard import Diverged, Guard, to_skip
from training.interrupt import Interrupted
from training.optimizer import Muon, build_optimizers, orthogonalise
from training.peak import flops_per_token, measured_peak
from training.recipe import BadRecipe, TrainConfig
from training.sampled_softmax import FullLoss, SampledLoss, sample_head
from training.schedule import learning_rate
from training.shards import BadShard, open_split
from training.train import Run, train

CPU = torch.device("cpu")


def batches(data, tokenizer, recipe, rank=0, world=1):
    sampler = RowSampler(open_split(data, "train", tokenizer), tokenizer, 65, recipe.fim, recipe.train.seed)
    return Batches(recipe, sampler, tokenizer, Ranks(rank, world, CPU))


def weights(out):
    return checkpoint.read(out / checkpoint.FILE).tensors


class hook_losses:
    """Calls `change(loss, micro-batch)` for every loss, and takes what it returns instead."""

    def __init__(self, change):
        self.change = change

    def __enter__(self):
        def hook(module, inputs, output):
            return self.change(output, inputs) if isinstance(module, FullLoss | SampledLoss) else None

        self.handle = register_module_forward_hook(hook)

    def __exit__(self, *_):
        self.handle.remove()


def test_the_loss_falls(data, tmp_path):
    train(toy(total_tokens=60 * 256), data, tmp_path, threads=1, compiled=False)
    seen = losses(tmp_path)
    assert seen[60] < seen[1] - 1


@pytest.mark.parametrize(
    "settings",
    [{}, {"head_tokens": 0, "batch_tokens": 64, "total_tokens": 12 * 64}, {"optimizer": "adamw", "clip_norm": 0.5}],
)
def test_resuming_gives_the_weights_and_losses_of_an_uninterrupted_run(data, tmp_path, settings):
    train(toy(**settings), data, tmp_path / "whole", threads=1, compiled=False)
    seen = []

    def stop_in_step_7(loss, _):
        seen.append(loss)
        if len(seen) == 7:
            signal.raise_signal(signal.SIGINT)
        return loss

    stopped = pytest.raises(Interrupted, match="stopped at step 7 of 12; run the same command again")
    with hook_losses(stop_in_step_7), stopped as interrupted:
        train(toy(**settings), data, tmp_path / "parts", threads=1, compiled=False)
    assert interrupted.value.exit_code == 130
    train(toy(**settings), data, tmp_path / "parts", threads=1, compiled=False)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_finished_run_stays_as_it_is(data, tmp_path):
    last = train(toy(), data, tmp_path, threads=1, compiled=False)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    assert train(toy(), data, tmp_path, threads=1, compiled=False) == last
    assert (tmp_path / checkpoint.FILE).read_bytes() == before


def gradient(data, tokenizer, recipe, world=1):
    """Of batch 3, as the mean over `world` processes."""
    total = None
    for rank in range(world):
        torch.manual_seed(0)
        model = GPT(recipe.model)
        model.init_weights()
        torch.nn.init.normal_(model.blocks[0].mlp.down.weight, std=0.2)
        loss = SampledLoss(model) if recipe.train.head_tokens else FullLoss(model)
        run = Run(recipe, Ranks(rank, world, CPU), tokenizer, model, loss, [], Snapshot({}, {}))
        run.accumulate_gradient(batches(data, tokenizer, recipe, rank, world)[3][0])
        grads = torch.cat([p.grad.flatten() for p in model.parameters()]) / world
        total = grads if total is None else total + grads
    return total


@pytest.mark.parametrize("head_tokens", [0, 2048])
@pytest.mark.parametrize(("world", "micro_batch_rows"), [(1, 1), (1, 3), (2, 0), (3, 1), (4, 0)])
def test_the_gradient_is_that_of_one_big_batch(data, tokenizer, world, micro_batch_rows, head_tokens):
    exact = {"head_tokens": head_tokens, "precision": "float32"}
    whole = gradient(data, tokenizer, toy(**exact))
    parts = gradient(data, tokenizer, toy(**exact, micro_batch_rows=micro_batch_rows), world)
    assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)
    assert whole.abs().max() > 1e-3


def test_more_processes_than_rows_are_refused(data, tokenizer):
    with pytest.raises(BadRecipe, match="a batch of 4 rows is less than one for each of 5 processes"):
        batches(data, tokenizer, toy(), world=5)


def test_left_out_batches_are_never_trained_on():
    skipped = [7, 2, 3]
    numbers = [batch_number(step, skipped) for step in range(8)]
    assert numbers == [0, 1, 4, 5, 6, 8, 9, 10]


@pytest.mark.parametrize("poison", [float("nan"), 40.0])
def test_a_poisoned_batch_is_left_out_and_training_goes_on_from_the_last_checkpoint(data, tokenizer, tmp_path, poison):
    recipe = toy(total_tokens=56 * 256)
    bad = batches(data, tokenizer, recipe)[52][0][0][0]

    def change(loss, inputs):
        return loss * poison if torch.equal(inputs[0], bad) else loss

    with hook_losses(change):
        train(recipe, data, tmp_path, threads=1, compiled=False)
    events = [line for line in log_lines(tmp_path) if "event" in line]
    assert [(line["at"], line["skipped"]) for line in events] == [(53, [52])]
    assert sorted(losses(tmp_path)) == list(range(1, 57))
    assert checkpoint.read(tmp_path / checkpoint.FILE).state["skipped"] == [52]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


def test_training_gives_up_when_going_back_does_not_help(data, tmp_path):
    seen = []

    def change(loss, _):
        seen.append(loss)
        return loss * float("nan") if len(seen) > 5 else loss

    with hook_losses(change), pytest.raises(Diverged, match="going back to step 0 4 times: lower the learning rates"):
        train(toy(), data, tmp_path, threads=1, compiled=False)


def test_each_further_rewind_leaves_out_more_of_what_led_to_it():
    assert to_skip([3, 4, 5, 6, 7, 8], 0) == [8]
    assert to_skip([3, 4, 5, 6, 7, 8], 1) == [5, 6, 7, 8]
    assert to_skip([3, 4, 5, 6, 7, 8], 2) == [3, 4, 5, 6, 7, 8]


def test_the_guard_takes_noise_and_refuses_spikes(rng):
    guard = Guard()
    for step in range(400):
        loss, norm = 5 - step / 200 + rng.normal(0, 0.15), float(np.exp(rng.normal(0, 0.5)))
        assert guard.problem(loss, norm) is None
        guard.accept(loss, norm)
    assert "loss 6.000 after a mean of" in guard.problem(6.0, 1.0)
    assert "gradient norm 100 after a median of" in guard.problem(3.0, 100.0)
    assert Guard.from_state(guard.state()) == guard


def test_the_logs_tell_how_training_goes(data, tmp_path):
    train(toy(), data, tmp_path, threads=1, compiled=False)
    first, *_, last = log_lines(tmp_path)
    assert last["tokens"] == 12 * 256
    assert first["lr"] == pytest.approx(0.01)
    assert 0.1 < last["bits_per_byte"] / last["loss"] < 1  # 1.44 bits a nat, more than 1.44 bytes a token
    assert last["tokens_per_s"] > 0
    assert 0 < last["mfu"] < 1
    assert 0 <= last["data_wait"] < 1
    assert last["grad_norm"] > 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in events] == list(range(1, 13))


def test_flops_are_those_of_the_palm_formula():
    model = GPT(MODEL)
    every = sum(p.numel() for p in model.parameters())  # the tied embedding is multiplied once, as head
    assert flops_per_token(model, toy(head_tokens=0)) == 6 * every + 12 * 1 * 2 * 16 * 64
    assert flops_per_token(model, toy(head_tokens=20_000)) == flops_per_token(model, toy(head_tokens=0))
    fewer = flops_per_token(model, toy(head_tokens=1000))
    assert flops_per_token(model, toy(head_tokens=0)) - fewer == 6 * (16384 - 1000) * 32
    assert measured_peak(CPU, torch.float32) > 1e8


def test_a_missing_tokenizer_or_data_set_says_what_to_run(tmp_path, tokenizer):
    with pytest.raises(BadShard, match=r"tokenizer\.tiktoken is missing: run `midfill-train tokenizer` first"):
        train(toy(), tmp_path, tmp_path, compiled=False)
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    with pytest.raises(BadShard, match="midfill-train prepare"):
        train(toy(), tmp_path, tmp_path, compiled=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_clear_sentence(data, tmp_path):
    with pytest.raises(NoDevice, match="PyTorch sees no GPU on this machine"):
        train(toy(), data, tmp_path, device="cuda")


def test_a_cut_shard_is_named_before_anything_is_written(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    largest = max(copy.glob("train-*/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-10])
    with pytest.raises(BadShard, match=largest.name):
        train(toy(), copy, tmp_path / "run", compiled=False)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_is_too_small_is_refused(data, tmp_path):
    recipe = dataclasses.replace(toy(head_tokens=0), model=dataclasses.replace(MODEL, vocab_size=600))
    with pytest.raises(BadRecipe, match=r"vocab_size 600 is less than the 16384 of .*tokenizer.tiktoken"):
        train(recipe, data, tmp_path, compiled=False)


@pytest.mark.parametrize(
    ("state", "message"),
    [({"tokenizer": "0" * 64}, "another tokenizer"), ({"optimizer": "adamw"}, "another optimizer")],
)
def test_a_checkpoint_of_another_training_is_refused_and_kept(data, tmp_path, state, message):
    model = GPT(MODEL)
    snapshot = checkpoint.take(model, build_optimizers(model, toy().train), {"step": 3} | state)
    checkpoint.write(tmp_path / checkpoint.FILE, snapshot)
    with pytest.raises(BadCheckpoint, match=f"{message} .*: take another --out"):
        train(toy(), data, tmp_path, compiled=False)
    assert checkpoint.read(tmp_path / checkpoint.FILE).step == 3


def test_the_schedule_warms_up_stays_and_decays():
    config = TrainConfig(total_tokens=1000, batch_tokens=10, row_tokens=10, warmup_steps=10)
    factors = [learning_rate(config, step) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:50] == [1.0] * 40
    assert all(later < earlier for earlier, later in pairwise(factors[50:]))
    assert factors[-1] < 0.08


def test_the_sampled_loss_estimates_the_full_one(rng):
    torch.manual_seed(0)
    model = GPT(GPTConfig(2000, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=128))
    model.init_weights()
    model.embedding.weight.data *= 20
    rows = rng.integers(0, 300, (4, 65))
    inputs, targets = torch.from_numpy(rows[:, :-1].copy()), rows[:, 1:].reshape(-1)
    with torch.no_grad():
        full = FullLoss(model)(inputs, torch.from_numpy(targets))
        samples = [sample_head(targets, 2000, 600, rng) for _ in range(40)]
        sampled = [SampledLoss(model)(inputs, sample.tokens, sample.offsets, sample.targets) for sample in samples]
    assert torch.stack(sampled).mean().item() == pytest.approx(full.item(), abs=0.02)


def test_every_target_is_in_the_sampled_head(rng):
    targets = rng.integers(0, 1000, 500)
    sample = sample_head(targets, 1000, 700, rng)
    assert len(set(sample.tokens.tolist())) == 700
    assert np.array_equal(sample.tokens[sample.targets].numpy(), targets)
    with pytest.raises(ValueError, match="needs head_tokens of more than 10"):
        sample_head(targets, 1000, 10, rng)


def test_a_head_that_is_too_small_is_one_clear_sentence(data, tmp_path):
    with pytest.raises(ValueError, match=r"^a batch with \d+ different tokens needs head_tokens of more than 8$"):
        train(toy(head_tokens=8), data, tmp_path, compiled=False)


@pytest.mark.parametrize("shape", [(96, 64), (128, 32), (32, 128)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_minimises_a_quadratic():
    torch.manual_seed(0)
    target, weight = torch.randn(16, 16), torch.nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], lr=0.05, momentum=0.9, weight_decay=0.0, dtype=torch.float32)
    for _ in range(200):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    assert ((weight - target) ** 2).mean() < 0.1


def test_muon_takes_only_the_matrices_of_the_blocks():
    others = {"positions": "learned", "norm": "layer", "norm_eps": 1e-5, "norm_affine": True, "qkv_bias": True}
    model = GPT(GPTConfig(**MODEL.to_dict() | others | {"tied_head": False}))
    muon, adamw = build_optimizers(model, toy().train)
    matrices, rest = ({id(p) for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adamw))
    assert matrices == {id(p) for p in model.blocks.parameters() if p.dim() == 2}
    assert len(matrices) == 6
    assert matrices | rest == {id(p) for p in model.parameters()}
    assert not matrices & rest
    (everything,) = build_optimizers(model, toy(optimizer="adamw", weight_decay=0.1).train)
    decayed, spared = everything.param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
