"""The weights that a training starts from: random ones, or a model directory's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference_service.model import directory
from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.tokenizer import Tokenizer


class BadStart(ValueError):
    """A model directory that this training cannot start from; the message says the path and what to do."""


@dataclass(frozen=True, slots=True)
class InitConfig:
    """What kind of directory the recipe starts from: one of ours, or a checkpoint in Hugging Face layout."""

    layout: Literal["midfill", "huggingface"]


@dataclass(frozen=True, slots=True)
class Start:
    """A directory to start from."""

    path: Path
    layout: str

    def open(self) -> LoadedModel:
        """Read and verify it. Raises BadModel."""
        if self.layout == "huggingface":
            from inference_service.model import huggingface

            return huggingface.load(self.path)
        return directory.load(self.path)


def initial_model(config: GPTConfig, seed: int, start: Start | None, tokenizer: Tokenizer) -> GPT:
    """A model in training mode. Raises BadModel, or BadStart when `tokenizer` is not the directory's."""
    if start is None:
        model = GPT(config)
        model.init_weights(seed)
        return model
    loaded = start.open()
    if loaded.tokenizer.digest != tokenizer.digest:
        raise BadStart(
            f"the data was prepared with another tokenizer than {start.path} has: prepare it again with that one's"
        )
    return loaded.build_float().train().requires_grad_(True)
