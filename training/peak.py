"""How fast this device multiplies matrices, and how much of that a training needs: model FLOPs utilisation.

MFU (Chowdhery et al. 2022, appendix B) is tokens/s times (6 N + 12 L H Q T) over the peak, with N the weights that a
token is multiplied with, L layers, H heads of width Q, T tokens a row. 6 N is a multiplication and an addition, once
forward and twice backward; attention is counted as if it were not causal. The peak is not a data sheet's but what
this device reaches with large matrices of the training's type, right now.
"""

from __future__ import annotations

import time

import torch

from inference_service.model.gpt import GPT
from training.recipe import Recipe

_SECONDS = 0.2
_SIDES = {"cpu": 1024, "cuda": 8192}


def flops_per_token(model: GPT, recipe: Recipe) -> int:
    """Floating point operations that the model's arithmetic needs a token, forward and backward."""
    shape = model.config
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2)
    head = (recipe.head_tokens or shape.vocab_size) * shape.d_model
    return 6 * (matrices + head) + 12 * shape.n_layer * shape.n_head * shape.head_dim * recipe.train.row_tokens


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the best of some matrix products in the training's type."""
    side = _SIDES[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
