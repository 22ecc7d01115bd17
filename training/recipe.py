"""Recipes: typed, validated TOML files that describe a training run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from inference_service.model.gpt import GPTConfig
from training.fim import FimConfig


class BadRecipe(ValueError):
    """A recipe that cannot be used; the message names the file, the key and what is allowed."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """`batch_tokens` is the global batch, whatever the number of processes; rates are peaks.

    The schedule warms up over `warmup_steps`, stays, and falls linearly to `final_lr` of the peak over the last
    `decay_share` of `total_tokens` (warm-up/stable/decay, Hu et al. 2024).
    `head_tokens` is how many ids of the vocabulary a step scores, 0 for all.
    """

    total_tokens: int
    batch_tokens: int
    row_tokens: int
    head_tokens: int = 0
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    weight_decay: float = 0.01
    momentum: float = 0.95
    warmup_steps: int = 40
    decay_share: float = 0.5
    final_lr: float = 0.05
    checkpoint_minutes: float = 5.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    model: GPTConfig
    train: TrainConfig
    fim: FimConfig = field(default_factory=FimConfig)


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by file path, or by name from the bundled ones. Raises BadRecipe."""
    path = Path(name_or_path)
    if not path.suffix:
        path = Path(__file__).parent / "recipes" / f"{name_or_path}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        bundled = ", ".join(sorted(p.stem for p in (Path(__file__).parent / "recipes").glob("*.toml")))
        raise BadRecipe(f"no recipe {path}: give a .toml file or one of {bundled}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path} is not valid TOML: {error}") from error
    sections = {"model": GPTConfig, "train": TrainConfig, "fim": FimConfig}
    unknown = set(data) - set(sections)
    if unknown:
        raise BadRecipe(f"{path}: unknown section [{min(unknown)}], allowed are {', '.join(sections)}")
    built = {key: _build(path, key, section, data.get(key, {})) for key, section in sections.items()}
    return Recipe(path.stem, **built)


def _build(path: Path, section: str, kind: type, values: dict[str, Any]) -> Any:
    types = {f.name: f.type for f in fields(kind)}
    for key, value in values.items():
        if key not in types:
            raise BadRecipe(f"{path}: unknown key {section}.{key}, allowed are {', '.join(types)}")
        if types[key] == "float" and type(value) is int:
            continue
        if type(value).__name__ != types[key]:
            raise BadRecipe(f"{path}: {section}.{key} must be {types[key]}, not {value!r}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{path}: [{section}] {error}") from error
