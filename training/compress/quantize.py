"""The quantize stage: int8 rows, or int4 groups with error compensation beside plain rounding."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch

from training.compress.gptq import gptq, round_to_nearest
from training.compress.release import Compressed
from training.compress.source import Source, like_training
from training.fim import RowSampler
from training.shards import open_split

_ROWS = 64
_ROW_TOKENS = 512
_SEED = 17  # not training's: a run's first rows are the ones that it has seen


def int8(source: Source) -> Compressed:
    """Symmetric rows, which `directory.write` makes of any model."""
    return Compressed("int8 rows", source.model, {"quantize": {"bits": 8}})


def int4_nearest(source: Source, group: int) -> Compressed:
    """Every weight rounded for itself. Raises ValueError when rows of weights are not whole groups."""
    settings = {"quantize": {"bits": 4, "group": group, "method": "round to nearest"}}
    return Compressed(
        f"int4, groups of {group}, nearest", source.model, settings, round_to_nearest(source.model, group)
    )


def int4_gptq(source: Source, group: int, data: Path, progress: Callable[[str], object] = lambda _: None) -> Compressed:
    """Rounded with error compensation on rows of the training split. Raises BadShard, and like `int4_nearest`."""
    length = min(_ROW_TOKENS, source.model.config.context_length)
    documents = open_split(data, "train", source.tokenizer)
    sampler = RowSampler(documents, source.tokenizer, length, like_training(source.tokenizer), _SEED)
    rows = torch.tensor([sampler.row(number) for number in range(_ROWS)])
    model = deepcopy(source.model)
    settings = {"quantize": {"bits": 4, "group": group, "method": "GPTQ", "calibration_tokens": rows.numel()}}
    return Compressed(f"int4, groups of {group}, GPTQ", model, settings, gptq(model, rows, group, progress))
