"""Recipes: mistakes are named, the bundled ones are what they say, and those that finetune start from a model."""

import dataclasses
import json

import pytest
import torch
import transformers

from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.model.huggingface import load as load_huggingface
from inference_service.model.location import BadModel
from tests.inference_service.model.huggingface.small_models import random_model, save
from tests.training.toy import losses, toy
from training import checkpoint
from training.batches import Batches
from training.distributed import Ranks
from training.export.huggingface import export_huggingface
from training.fim import RowSampler
from training.initial import BadStart
from training.publish import load_checkpoint
from training.recipe import BadRecipe, load_recipe
from training.schedule import learning_rate
from training.shards import open_split, prepare
from training.train import train

TRAIN = "[train]\ntotal_tokens = 1000\nbatch_tokens = 100\nrow_tokens = 10\n"
MODEL = (
    "[model]\nvocab_size = 600\nn_layer = 1\nn_head = 1\nn_kv_head = 1\nd_model = 8\nd_ff = 8\ncontext_length = 64\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train\n", "not valid TOML"),
        ("[training]\n", r"unknown section \[training\], allowed are model, train, fim"),
        (TRAIN, r"needs either \[model\], or \[init\]"),
        (MODEL + '[init]\nlayout = "midfill"\n', r"needs either \[model\], or \[init\]"),
        ("[model]\nlayers = 2\n", "unknown key model.layers, allowed are vocab_size"),
        ('[model]\nn_layer = "2"\n', "model.n_layer must be int, not '2'"),
        ("[model]\nn_layer = 2\n", r"\[model\].*missing"),
        (MODEL + TRAIN + 'optimizer = "sgd"\n', "train.optimizer must be one of 'muon', 'adamw', not 'sgd'"),
        (MODEL + TRAIN + "muon_lr = true\n", "train.muon_lr must be float, not True"),
        (MODEL + TRAIN.replace("100\n", "105\n"), r"\[train\] batch_tokens 105 must be rows of 10 tokens"),
        (MODEL + TRAIN.replace("1000", "10"), "total_tokens 10 is less than one batch of 100"),
        (MODEL + TRAIN.replace("= 1000", "= 0"), "total_tokens must be at least 1"),
        (MODEL + TRAIN.replace("10\n", "100\n"), "row_tokens 100 is more than the model's context_length 64"),
        ('[init]\nlayout = "gguf"\n', "init.layout must be one of 'midfill', 'huggingface', not 'gguf'"),
        ('[init]\nlayout = "midfill"\n' + TRAIN, "starts from a model: give --init DIRECTORY, in midfill layout"),
    ],
)
def test_a_recipe_with_a_mistake_names_it(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=message) as error:
        load_recipe(str(path))
    assert "r.toml" in str(error.value) or "recipe r:" in str(error.value)


def test_an_unknown_recipe_lists_the_bundled_ones():
    with pytest.raises(BadRecipe, match="one of base, finetune, finetune-gpt2, nano, small"):
        load_recipe("nanoo")


def test_random_weights_and_a_directory_exclude_each_other(tiny_model_dir):
    with pytest.raises(BadRecipe, match="starts from random weights: leave --init out"):
        load_recipe("nano", tiny_model_dir)


@pytest.mark.parametrize(("name", "millions"), [("nano", 15.3), ("small", 30), ("base", 124)])
def test_the_bundled_recipes_have_the_size_that_they_tell(name, millions):
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = GPT(recipe.model)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.02)
    assert recipe.train.rows % 8 == 0 or name == "nano"


def test_finetuning_gpt2_is_the_classic_schedule(tmp_path):
    save(random_model("gpt2"), "gpt2", tmp_path)
    config = load_recipe("finetune-gpt2", tmp_path).train
    rates = [config.adam_lr * learning_rate(config, step) for step in range(config.steps)]
    assert (config.row_tokens, config.steps, config.optimizer) == (512, 5000, "adamw")
    assert max(rates) == pytest.approx(5e-5, rel=0.03)
    assert rates[-1] == pytest.approx(5e-6, rel=0.01)


def test_the_recipe_that_a_run_leaves_is_read_back(tmp_path):
    recipe = toy()
    recipe.save(tmp_path / "toy.json")
    assert load_recipe(str(tmp_path / "toy.json")) == recipe


def finetune_recipe(folder, layout, **train_settings):
    path = folder / "tune.json"
    settings = dataclasses.asdict(
        toy(**{"optimizer": "adamw", "head_tokens": 0, "adam_lr": 0.003} | train_settings).train
    )
    fim = {"fim_rate": 0.0, "path_share": 0.0, "context_share": 0.0}
    path.write_text(json.dumps({"init": {"layout": layout}, "train": settings, "fim": fim}))
    return str(path)


def first_batch(recipe, data, tokenizer):
    sampler = RowSampler(
        open_split(data, "train", tokenizer), tokenizer, recipe.train.row_tokens + 1, recipe.fim, recipe.train.seed
    )
    return Batches(recipe, sampler, tokenizer, Ranks(0, 1, torch.device("cpu")))[0][0][0]


def test_finetuning_goes_on_from_one_of_our_models(data, tokenizer, tiny_model_dir, tmp_path):
    settings = {"batch_tokens": 128, "total_tokens": 20 * 128, "precision": "float32"}
    recipe = load_recipe(finetune_recipe(tmp_path, "midfill", **settings), tiny_model_dir)
    inputs, targets = first_batch(recipe, data, tokenizer)
    logits = directory.load(tiny_model_dir).build_float()(inputs)
    before = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).item()
    train(recipe, data, tmp_path / "run", threads=1, compiled=False)
    seen = losses(tmp_path / "run")
    assert seen[1] == pytest.approx(before, abs=1e-4)
    assert seen[20] < seen[1] - 0.5
    kept = load_recipe(str(tmp_path / "run" / "tune.json"))
    assert kept.model == recipe.model
    checkpoint.restore(checkpoint.read(tmp_path / "run" / checkpoint.FILE), GPT(kept.model), [])


def test_finetuning_goes_on_from_a_gpt2_and_ends_with_one_as_transformers_computes_them(corpus, tmp_path):
    source = save(random_model("gpt2"), "gpt2", tmp_path / "gpt2")
    tokenizer = load_huggingface(source).tokenizer
    prepare(corpus, "train", tokenizer, tmp_path / "data")
    tokenizer.save(tmp_path / "data" / "tokenizer.tiktoken")
    bundled = load_recipe("finetune-gpt2", source)
    shorter = {"total_tokens": 20 * 1024, "batch_tokens": 1024, "adam_lr": 0.003, "warmup_steps": 2}
    shorter["precision"] = "float32"
    recipe = dataclasses.replace(bundled, train=dataclasses.replace(bundled.train, **shorter))
    inputs, targets = first_batch(recipe, tmp_path / "data", tokenizer)
    assert inputs.shape == (2, 512)
    logits = transformers.AutoModelForCausalLM.from_pretrained(source)(inputs).logits
    before = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).item()
    train(recipe, tmp_path / "data", tmp_path / "run", threads=1, compiled=False)
    seen = losses(tmp_path / "run")
    assert seen[1] == pytest.approx(before, abs=1e-4)
    assert seen[20] < seen[1] - 0.5

    trained, _ = load_checkpoint(recipe, tmp_path / "run", tokenizer)
    export_huggingface(dataclasses.replace(load_huggingface(source), floats=trained.state_dict()), tmp_path / "tuned")
    tuned = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned").eval()
    with torch.inference_mode():
        torch.testing.assert_close(tuned(inputs).logits, trained(inputs), atol=1e-4, rtol=1e-4)


def test_data_of_another_tokenizer_is_refused(data, tmp_path):
    source = save(random_model("gpt2", vocab_size=20000), "gpt2", tmp_path / "gpt2")
    recipe = load_recipe(finetune_recipe(tmp_path, "huggingface"), source)
    with pytest.raises(BadStart, match=r"another tokenizer than .*gpt2 has: prepare it again"):
        train(recipe, data, tmp_path / "run", compiled=False)
    assert not (tmp_path / "run").exists()


def test_a_directory_of_the_other_layout_is_refused(tiny_model_dir, tmp_path):
    with pytest.raises(BadModel, match="is missing"):
        load_recipe(finetune_recipe(tmp_path, "midfill"), save(random_model("gpt2"), "gpt2", tmp_path / "gpt2"))
    with pytest.raises(BadModel, match="supported are gpt2"):
        load_recipe(finetune_recipe(tmp_path, "huggingface"), tiny_model_dir)
