"""What a compression starts from: the float model of a training run, or a model directory's weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference_service.model import loading
from inference_service.model.fim import SPM2
from inference_service.model.gpt import GPT
from inference_service.model.location import resolve
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.fim import FimConfig
from training.recipe import load_recipe
from training.shards import load_tokenizer

_BESIDE = "sources.json"  # what a card may refer to


class BadSource(ValueError):
    """A model or data folder that cannot be used together; the message says the paths and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A float32 model (CPU, evaluation mode) with what its next directory takes over.

    `training` is the provenance for config.json, `beside` holds more files by name.
    """

    path: Path
    model: GPT
    tokenizer: Tokenizer
    card: str
    training: dict[str, Any]
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.resolve().name


def open_source(name_or_path: str, data: Path, recipe: str | None = None) -> Source:
    """A run folder, a model directory (ours, or in Hugging Face layout), or a bundled model's name.

    `recipe` is for a run whose folder does not hold its recipe.

    `data` is the prepared data that the compressed model will be calibrated and measured on.
    Raises BadSource, BadModel, BadRecipe, BadCheckpoint or BadShard.
    """
    tokenizer = load_tokenizer(data)
    folder = Path(name_or_path)
    if (folder / checkpoint.FILE).is_file():
        return _of_run(folder, recipe or _left_recipe(folder), tokenizer)
    source = _of_directory(resolve(name_or_path))
    if source.tokenizer.digest != tokenizer.digest:
        raise BadSource(
            f"{data} was prepared with another tokenizer than {source.path} has: give the data of that model as --data"
        )
    return source


def _left_recipe(run: Path) -> str:
    """The recipe that a training leaves in its folder."""
    found = sorted(run.glob("*.json"))
    if len(found) != 1:
        raise BadSource(f"{run} holds {len(found)} recipes (*.json), not one: give the run's recipe as --recipe")
    return str(found[0])


def _of_run(run: Path, recipe_name: str, tokenizer: Tokenizer) -> Source:
    recipe = load_recipe(recipe_name)
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise BadSource(
            f"{run} was trained with a smaller vocabulary than the data's tokenizer has: give its own --data"
        )
    snapshot = checkpoint.read(run / checkpoint.FILE)
    if snapshot.state.get("tokenizer", tokenizer.digest) != tokenizer.digest:  # older checkpoints do not tell
        raise BadSource(f"{run} was trained with another tokenizer than the data's: give its own as --data")
    model = GPT(recipe.model)
    try:
        checkpoint.restore(snapshot, model, [])
    except ValueError as error:
        raise BadSource(f"{run} does not fit recipe {recipe_name}: {error}") from error
    training = {"recipe": recipe.name, "tokens_seen": snapshot.step * recipe.train.batch_tokens}
    card = f"# Model card: {run.resolve().name}\n"
    return Source(run, model.eval().requires_grad_(False), tokenizer, card, training)


def _of_directory(path: Path) -> Source:
    loaded = loading.load(path)
    if loading.is_huggingface(path):
        return Source(path, loaded.build_float(), loaded.tokenizer, f"# Model card: {loaded.name}\n", {})
    beside = path / _BESIDE
    return Source(
        path,
        loaded.build_float(),
        loaded.tokenizer,
        card=(path / "card.md").read_text(encoding="utf-8"),
        training=json.loads((path / "config.json").read_text(encoding="utf-8"))["training"],
        beside={_BESIDE: beside.read_text(encoding="utf-8")} if beside.is_file() else {},
    )


def like_training(tokenizer: Tokenizer) -> FimConfig:
    """The mix of samples for a model of that tokenizer: without infilling where the model has not our format."""
    return FimConfig() if tokenizer.fim is SPM2 else FimConfig(fim_rate=0.0)
