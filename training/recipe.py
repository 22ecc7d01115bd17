"""Recipes: typed, validated files that describe a training run."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from inference_service.model.gpt import GPTConfig
from training.fim import FimConfig
from training.initial import InitConfig, Start

_BUNDLED = Path(__file__).parent / "recipes"


class BadRecipe(ValueError):
    """A recipe that cannot be used; the message names the file, the key and what is allowed."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """`batch_tokens` is the global batch, whatever the number of processes; rates are peaks.

    A process takes its part of a batch in pieces of `micro_batch_rows` rows (0: in one), whose gradients add up.
    The schedule warms up over `warmup_steps`, stays, and falls linearly to `final_lr` of the peak over the last
    `decay_share` of `total_tokens` (warm-up/stable/decay, Hu et al. 2024).
    `head_tokens` is how many ids of the vocabulary a step scores, 0 for all.
    `precision` "auto" multiplies matrices in bfloat16 where the device has instructions for it.
    `optimizer` "muon" is Muon for matrices and AdamW for the rest. `clip_norm` limits the gradient's norm, 0 does not.
    """

    total_tokens: int
    batch_tokens: int
    row_tokens: int
    micro_batch_rows: int = 0
    head_tokens: int = 0
    precision: Literal["auto", "float32"] = "auto"
    optimizer: Literal["muon", "adamw"] = "muon"
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    weight_decay: float = 0.01
    momentum: float = 0.95
    clip_norm: float = 0.0
    warmup_steps: int = 40
    decay_share: float = 0.5
    final_lr: float = 0.05
    checkpoint_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("total_tokens", "batch_tokens", "row_tokens"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1")
        if self.batch_tokens % self.row_tokens:
            raise ValueError(f"batch_tokens {self.batch_tokens} must be rows of {self.row_tokens} tokens")
        if self.total_tokens < self.batch_tokens:
            raise ValueError(f"total_tokens {self.total_tokens} is less than one batch of {self.batch_tokens}")

    @property
    def steps(self) -> int:
        return self.total_tokens // self.batch_tokens

    @property
    def rows(self) -> int:
        """Rows of a global batch."""
        return self.batch_tokens // self.row_tokens


@dataclass(frozen=True, slots=True)
class Recipe:
    """`start` is the model directory whose weights come first; without it they are random."""

    name: str
    model: GPTConfig
    train: TrainConfig
    fim: FimConfig = field(default_factory=FimConfig)
    start: Start | None = None

    def __post_init__(self) -> None:
        if self.train.row_tokens > self.model.context_length:
            raise BadRecipe(
                f"recipe {self.name}: row_tokens {self.train.row_tokens} is more than the model's context_length "
                f"{self.model.context_length}"
            )

    @property
    def head_tokens(self) -> int:
        """How many ids a step scores; 0, for all, also where the vocabulary is not larger."""
        return self.train.head_tokens if self.train.head_tokens < self.model.vocab_size else 0

    def save(self, path: Path) -> None:
        """Write it as JSON that `load_recipe` reads; the architecture of a starting model is spelled out."""
        sections = {"model": self.model.to_dict(), "train": asdict(self.train), "fim": asdict(self.fim)}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def load_recipe(name_or_path: str, init: Path | None = None) -> Recipe:
    """A recipe by file path (TOML, or the JSON that a run leaves), or by name from the bundled ones.

    A recipe with an [init] section has no [model] section, its architecture is that of the directory `init`.
    Raises BadRecipe, or BadModel when `init` cannot be read.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = _BUNDLED / f"{name_or_path}.toml"
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        bundled = ", ".join(sorted(p.stem for p in _BUNDLED.glob("*.toml")))
        raise BadRecipe(f"no recipe {path}: give a .toml file or one of {bundled}") from error
    except ValueError as error:
        raise BadRecipe(f"{path} is not valid {path.suffix.removeprefix('.').upper()}: {error}") from error
    sections = {"model": GPTConfig, "train": TrainConfig, "fim": FimConfig, "init": InitConfig}
    unknown = set(data) - set(sections)
    if unknown:
        raise BadRecipe(f"{path}: unknown section [{min(unknown)}], allowed are {', '.join(sections)}")
    if ("init" in data) == ("model" in data):
        raise BadRecipe(f"{path}: needs either [model], or [init] to take the architecture of a directory")
    start = None
    if "init" in data:
        config: InitConfig = _build(path, "init", InitConfig, data["init"])
        if not init:
            raise BadRecipe(f"{path} starts from a model: give --init DIRECTORY, in {config.layout} layout")
        start = Start(init, config.layout)
        model = start.open().config
    else:
        if init:
            raise BadRecipe(f"{path} starts from random weights: leave --init out, or take a finetune recipe")
        model = _build(path, "model", GPTConfig, data["model"])
    train = _build(path, "train", TrainConfig, data.get("train", {}))
    return Recipe(path.stem, model, train, _build(path, "fim", FimConfig, data.get("fim", {})), start)


def _build(path: Path, section: str, kind: type, values: dict[str, Any]) -> Any:
    types = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    for key, value in values.items():
        if key not in names:
            raise BadRecipe(f"{path}: unknown key {section}.{key}, allowed are {', '.join(names)}")
        if problem := _mismatch(types[key], value):
            raise BadRecipe(f"{path}: {section}.{key} must be {problem}, not {value!r}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{path}: [{section}] {error}") from error


def _mismatch(kind: Any, value: Any) -> str | None:
    """What a value of type `kind` has to be, when `value` is none."""
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        return None if value in allowed else "one of " + ", ".join(map(repr, allowed))
    if type(value) is kind or (kind is float and type(value) is int):
        return None
    return str(kind.__name__)
