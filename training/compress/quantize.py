"""The quantize stage: int8 rows and int4 groups with error compensation, beside plain rounding."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.compress.gptq import Quantized, gptq, round_to_nearest
from training.compress.grids import Grid, Groups, Rows
from training.compress.release import Compressed
from training.compress.source import Source, like_training
from training.fim import RowSampler
from training.shards import open_split

_ROWS = 64
_ROW_TOKENS = 512
_SEED = 17  # not training's: a run's first rows are the ones that it has seen


def int8(source: Source, data: Path, progress: Callable[[str], object] = lambda _: None) -> Compressed:
    """Rows, rounded with error compensation on rows of the training split. Raises BadShard."""
    settings = {"quantize": {"bits": 8, "method": "GPTQ", "calibration_tokens": _ROWS * _row_tokens(source.model)}}
    return _compensated("int8 rows, GPTQ", source, Rows(), settings, data, progress)


def int8_nearest(source: Source) -> Compressed:
    """Rows, every weight rounded for itself, which `directory.write` makes of any model."""
    return Compressed("int8 rows, nearest", source.model, {"quantize": {"bits": 8, "method": "round to nearest"}})


def int4_nearest(source: Source, group: int) -> Compressed:
    """Every weight rounded for itself. Raises ValueError when rows of weights are not whole groups."""
    settings = {"quantize": {"bits": 4, "group": group, "method": "round to nearest"}}
    name = f"int4, groups of {group}, nearest"
    return Compressed(name, source.model, settings, round_to_nearest(source.model, Groups(group)))


def int4_gptq(source: Source, group: int, data: Path, progress: Callable[[str], object] = lambda _: None) -> Compressed:
    """As `int8`, in groups. Raises BadShard, and like `int4_nearest`."""
    tokens = _ROWS * _row_tokens(source.model)
    settings = {"quantize": {"bits": 4, "group": group, "method": "GPTQ", "calibration_tokens": tokens}}
    return _compensated(f"int4, groups of {group}, GPTQ", source, Groups(group), settings, data, progress)


def int8_rows(model: GPT, tokenizer: Tokenizer, data: Path) -> Quantized:
    """(codes, scale) by parameter name of a model's matrices, rounded as `int8` does. Raises BadShard."""
    return gptq(deepcopy(model), _calibration(model, tokenizer, data), Rows())


def _compensated(
    name: str, source: Source, grid: Grid, settings: dict[str, Any], data: Path, progress: Callable[[str], object]
) -> Compressed:
    model = deepcopy(source.model)
    quantized = gptq(model, _calibration(model, source.tokenizer, data), grid, progress)
    return Compressed(name, model, settings, quantized)


def _calibration(model: GPT, tokenizer: Tokenizer, data: Path) -> Tensor:
    """Rows (N, T) int64 of the training split, mixed as in training."""
    documents = open_split(data, "train", tokenizer)
    sampler = RowSampler(documents, tokenizer, _row_tokens(model), like_training(tokenizer), _SEED)
    return torch.tensor([sampler.row(number) for number in range(_ROWS)])


def _row_tokens(model: GPT) -> int:
    return min(_ROW_TOKENS, model.config.context_length)
