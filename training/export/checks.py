"""What every export has in common: where it may be written, and that it computes what our model computes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from inference_service.model.gpt import GPT

LARGEST_DIFFERENCE = 1e-3  # of any logit
_SHAPES = ((1, 1), (2, 17), (1, 256))  # batch, tokens


class BadExport(ValueError):
    """A model that the format cannot hold, or a file that must not be written; the message says what to do."""


@contextmanager
def written(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, under the name of `out`; it takes that place when all went well.

    Files that lie beside it in the folder are moved along. Raises BadExport when something is there already.
    """
    if out.exists():
        raise BadExport(f"{out} exists: move it away or give another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging / out.name
        for path in sorted(staging.iterdir(), key=lambda path: path.name == out.name):  # the named one comes last
            path.replace(out.with_name(path.name))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def largest_difference(model: GPT, exported: Callable[[Tensor], Tensor]) -> float:
    """The largest absolute difference of a logit between the two, on random tokens (batch, tokens) int64 of some
    sizes. Raises BadExport when that is more than rounding."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.inference_mode():
        for batch, length in _SHAPES:
            size = batch, min(length, model.config.context_length)
            tokens = torch.randint(model.config.vocab_size, size, generator=generator)
            worst = max(worst, float((exported(tokens).float() - model(tokens)).abs().max()))
    if not worst <= LARGEST_DIFFERENCE:
        raise BadExport(f"the export computes other logits (by up to {worst:.3g}): nothing was written")
    return worst
