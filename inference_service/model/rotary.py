"""Rotary positions (Su et al. 2021) over the two halves of a head, as in the Hugging Face checkpoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference_service.model.config import GPTConfig

# Also where a model is built for its shapes only: arithmetic on the meta device imports for seconds.
_ON = torch.device("cpu")


def frequencies(config: GPTConfig) -> Tensor:
    """Radians per position (D/2,), scaled for a longer context where the config says so."""
    plain = 1.0 / config.rope_base ** (torch.arange(0, config.head_dim, 2, device=_ON).float() / config.head_dim)
    kept: Tensor | float = 0.0
    if config.rope_original_context:
        fits = config.rope_original_context * plain / (2 * math.pi)
        kept = ((fits - config.rope_low_freq) / (config.rope_high_freq - config.rope_low_freq)).clamp(0, 1)
    return (1 - kept) * plain / config.rope_factor + kept * plain


def rotary_tables(config: GPTConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (context, D) of every position; the first half of the sines is negated, for `rotate`."""
    angles = torch.outer(torch.arange(config.context_length, device=_ON).float(), frequencies(config))
    return torch.cat((angles.cos(), angles.cos()), dim=1), torch.cat((-angles.sin(), angles.sin()), dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, heads, T, D) turned by the tables (T, D) of its positions."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((right, left), dim=-1), sin)
