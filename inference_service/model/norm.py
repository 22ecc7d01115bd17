"""Root-mean-square normalisation (Zhang & Sennrich 2019) in the few operations that a decoding step can afford."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference_service.model.config import GPTConfig


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """x (..., C) over the root of its mean square plus `eps`; with an `eps` of 0 all-zero rows stay zero."""
    if x.dtype == torch.bfloat16:  # whose 8 bits would make whole rows half a percent too long
        return rms_norm(x.float(), eps).bfloat16()
    # F.rms_norm is eight small kernels on a CPU, a third of a decoding step
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if eps:
        return x * torch.rsqrt(length.square() / x.shape[-1] + eps)
    return x * (x.shape[-1] ** 0.5 / length.clamp_min(1e-6))


class RMSNorm(nn.Module):
    """`rms_norm` over the model width, with a gain where the config says so."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.weight = nn.Parameter(torch.ones(config.d_model)) if config.norm_affine else None

    def forward(self, x: Tensor) -> Tensor:
        x = rms_norm(x, self.eps)
        return x if self.weight is None else x * self.weight


def build_norm(config: GPTConfig) -> nn.Module:
    """The config's norm over the model width."""
    if config.norm == "layer":
        return nn.LayerNorm(config.d_model, eps=config.norm_eps, elementwise_affine=config.norm_affine)
    return RMSNorm(config)
