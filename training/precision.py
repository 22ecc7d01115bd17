"""Which type the matrices of a training are multiplied in."""

from __future__ import annotations

import torch

from training.recipe import TrainConfig


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 pay on this device.

    Every GPU that we train on has units for them. A CPU without such instructions emulates them, slower than float32;
    one with AVX-512 BF16 or AMX multiplies about four times as fast.
    """
    if device.type == "cuda":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def matrix_type(config: TrainConfig, device: torch.device) -> torch.dtype:
    """What the model's matrix products are computed in; parameters and sums stay float32."""
    return torch.bfloat16 if config.precision == "auto" and multiplies_bfloat16(device) else torch.float32
