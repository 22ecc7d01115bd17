"""Training: it learns, it resumes bit for bit, and bad input is named."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inference_service.model.gpt import GPT, GPTConfig
from training import checkpoint
from training.fim import FimConfig
from training.optimizer import Muon, orthogonalise
from training.recipe import BadRecipe, Recipe, TrainConfig, load_recipe
from training.sampled_softmax import SampledLoss, sample_head
from training.shards import BadShard
from training.train import FullLoss, build_optimizers, learning_rate, loss_inputs, train

MODEL = GPTConfig(16384, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=128)
TOY = Recipe(
    "toy", MODEL, TrainConfig(total_tokens=12 * 256, batch_tokens=256, row_tokens=64, warmup_steps=2), FimConfig()
)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def final_weights(out: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
    model = GPT(recipe.model)
    checkpoint.load(out / "checkpoint.safetensors", model, build_optimizers(model, recipe.train))
    return model.state_dict()


def test_the_loss_falls(data, tmp_path):
    recipe = dataclasses.replace(TOY, train=dataclasses.replace(TOY.train, total_tokens=60 * 256))
    train(recipe, data, tmp_path, threads=1, compiled=False)
    seen = losses(tmp_path)
    assert seen[-1] < seen[0] - 1.5


@pytest.mark.parametrize("head_tokens", [0, 2048])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(data, tmp_path, monkeypatch, head_tokens):
    recipe = dataclasses.replace(TOY, train=dataclasses.replace(TOY.train, head_tokens=head_tokens))
    train(recipe, data, tmp_path / "whole", threads=1, compiled=False)

    class Killed(BaseException):
        pass

    def die_in_step_7(_config, step):
        if step == 7:
            raise Killed
        return learning_rate(_config, step)

    eager_saving = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, checkpoint_minutes=0.0))
    with monkeypatch.context() as patch:
        patch.setattr("training.train.learning_rate", die_in_step_7)
        with pytest.raises(Killed):
            train(eager_saving, data, tmp_path / "parts", threads=1, compiled=False)
    train(recipe, data, tmp_path / "parts", threads=1, compiled=False)
    whole, parts = final_weights(tmp_path / "whole", recipe), final_weights(tmp_path / "parts", recipe)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_two_processes_train_on_the_same_batches(data, tmp_path):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        "[model]\nvocab_size = 16384\nn_layer = 1\nn_head = 2\nn_kv_head = 1\nd_model = 32\nd_ff = 64\n"
        "context_length = 128\n"
        "[train]\ntotal_tokens = 5120\nbatch_tokens = 256\nrow_tokens = 64\nwarmup_steps = 2\n"
    )
    common = ["training", "train", str(recipe), "--data", str(data), "--threads", "1", "--eager", "--out"]
    subprocess.run([sys.executable, "-m", *common, str(tmp_path / "one")], check=True, capture_output=True)
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    subprocess.run([*two, *common, str(tmp_path / "two")], check=True, capture_output=True)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), abs=1e-3)


def test_a_damaged_checkpoint_is_named_and_kept(data, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(checkpoint.BadCheckpoint, match=r"checkpoint\.safetensors cannot be resumed from .* delete it"):
        train(TOY, data, tmp_path, compiled=False)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_missing_data_folder_says_what_to_run(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    with pytest.raises(BadShard, match="midfill-train prepare"):
        train(TOY, tmp_path, tmp_path, compiled=False)


def test_the_schedule_warms_up_stays_and_decays():
    config = TrainConfig(total_tokens=1000, batch_tokens=10, row_tokens=10, warmup_steps=10)
    factors = [learning_rate(config, step) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:50] == [1.0] * 40
    assert factors[50:] == sorted(factors[50:], reverse=True)
    assert factors[-1] < 0.08


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train\n", "not valid TOML"),
        ("[training]\n", r"unknown section \[training\], allowed are model, train, fim"),
        ("[model]\nlayers = 2\n", "unknown key model.layers, allowed are vocab_size"),
        ('[model]\nn_layer = "2"\n', "model.n_layer must be int, not '2'"),
        ("[model]\nn_layer = 2\n", r"\[model\].*missing"),
    ],
)
def test_a_recipe_with_a_mistake_names_it(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=message):
        load_recipe(str(path))


def test_an_unknown_recipe_lists_the_bundled_ones():
    with pytest.raises(BadRecipe, match="one of nano"):
        load_recipe("nanoo")


def test_a_batch_that_does_not_divide_is_refused(data, tmp_path):
    recipe = dataclasses.replace(TOY, train=dataclasses.replace(TOY.train, batch_tokens=100))
    with pytest.raises(BadRecipe, match="batch_tokens 100 must be rows of 64"):
        train(recipe, data, tmp_path, compiled=False)


def test_the_sampled_loss_estimates_the_full_one(rng):
    torch.manual_seed(0)
    model = GPT(GPTConfig(2000, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=128))
    model.init_weights()
    model.embedding.weight.data *= 20
    rows = rng.integers(0, 300, (4, 65))
    recipe = Recipe("r", model.config, dataclasses.replace(TOY.train, head_tokens=600))
    with torch.no_grad():
        full = FullLoss(model)(torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].reshape(-1).copy()))
        sampled = [SampledLoss(model)(*loss_inputs(rows, recipe, draw)) for draw in range(40)]
    assert torch.stack(sampled).mean().item() == pytest.approx(full.item(), abs=0.02)


def test_every_target_is_in_the_sampled_head(rng):
    targets = rng.integers(0, 1000, 500)
    sample = sample_head(targets, 1000, 700, rng)
    assert len(set(sample.tokens.tolist())) == 700
    assert np.array_equal(sample.tokens[sample.targets].numpy(), targets)
    with pytest.raises(ValueError, match="needs head_tokens of more than 10"):
        sample_head(targets, 1000, 10, rng)


@pytest.mark.parametrize("shape", [(96, 64), (128, 32), (32, 128)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_minimises_a_quadratic():
    torch.manual_seed(0)
    target, weight = torch.randn(16, 16), torch.nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], lr=0.05, momentum=0.9, weight_decay=0.0)
    for _ in range(200):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    assert ((weight - target) ** 2).mean() < 0.1
