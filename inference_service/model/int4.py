"""int4 weights in groups along the input, symmetric, two to a byte: for the size on disk, not for arithmetic.

Serving widens them when it loads (`directory.load`), for the CPU kernel takes int8 rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST, HIGHEST = -8, 7
_SMALLEST_SCALE = 2.0**-14  # the smallest float16 with a full mantissa
# A group's largest weight may be cut to a share of itself where that makes the whole group's error smaller
# (the `mse` search of the GPTQ authors' code).
_CUTS = tuple(1 - 0.05 * step for step in range(8))


def group_scale(weight: Tensor) -> Tensor:
    """Weights (..., group) float -> the scale (...,) float16 whose rounding has the least squared error."""
    largest = weight.abs().amax(dim=-1, keepdim=True)
    best_error = torch.full(weight.shape[:-1], torch.inf, device=weight.device)
    best = torch.zeros(weight.shape[:-1], dtype=torch.float16, device=weight.device)
    for cut in _CUTS:
        scale = (cut * largest / HIGHEST).clamp_min(_SMALLEST_SCALE).half()
        error = (round_to(weight, scale) * scale.float() - weight).square().sum(dim=-1)
        better = error < best_error
        best_error, best = torch.where(better, error, best_error), torch.where(better, scale.squeeze(-1), best)
    return best


def round_to(weight: Tensor, scale: Tensor) -> Tensor:
    """Codes -8..7 (as float) of weights, for scales that broadcast against them."""
    return (weight / scale.float()).round().clamp(LOWEST, HIGHEST)


def quantize_groups(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """(out, in) float -> int8 codes of the same shape in -8..7 and float16 scales (out, in / group).

    Each weight to the nearest code. Raises ValueError when rows are not whole groups.
    """
    check_groups(weight, group)
    grouped = weight.detach().float().unflatten(1, (-1, group))
    scale = group_scale(grouped)
    return round_to(grouped, scale[..., None]).flatten(1).to(torch.int8), scale


def check_groups(weight: Tensor, group: int) -> None:
    """Raises ValueError when the rows of a matrix are not whole groups, two codes to a byte."""
    if weight.shape[1] % group or group % 2:
        raise ValueError(f"rows of {weight.shape[1]} weights are not whole groups of {group}")


def dequantize_groups(codes: Tensor, scale: Tensor) -> Tensor:
    """The float32 weights (out, in) of `quantize_groups`' result."""
    return (codes.float().unflatten(1, (scale.shape[1], -1)) * scale.float()[..., None]).flatten(1)


def pack(codes: Tensor) -> Tensor:
    """Codes (out, in) -> uint8 (out, in / 2); the even column is in the low half of a byte."""
    unsigned = (codes - LOWEST).to(torch.uint8)
    return unsigned[:, ::2] | unsigned[:, 1::2] << 4


def unpack(packed: Tensor) -> Tensor:
    """The int8 codes (out, in) of `pack`'s result."""
    return torch.stack((packed & 15, packed >> 4), dim=2).flatten(1).to(torch.int8) + LOWEST
