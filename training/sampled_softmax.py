"""The loss over a part of the vocabulary: on a CPU the head is most of a small model's arithmetic.

Importance sampling (Bengio & Senécal 2003; Jean et al. 2015, section 3): the tokens that are targets in the batch
are summed exactly, a uniform sample of all others stands for them, its logits raised by the log of how many each
one stands for. The estimate of the partition function is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference_service.model.gpt import GPT


@dataclass(frozen=True, slots=True)
class HeadSample:
    """`tokens` (count,) int64 ids to score, `offsets` (count,) float32 to add to their logits,
    `targets` (N,) int64 where each target stands in `tokens`."""

    tokens: Tensor
    offsets: Tensor
    targets: Tensor


def sample_head(targets: np.ndarray, vocab_size: int, count: int, rng: np.random.Generator) -> HeadSample:
    """All of `targets` (N,), filled up to `count` ids with a uniform sample of the rest."""
    always, positions = np.unique(targets, return_inverse=True)
    others = np.setdiff1d(np.arange(vocab_size), always, assume_unique=True)
    always_count = min(len(always), count)
    if always_count < len(always):
        raise ValueError(f"a batch with {len(always)} different tokens needs head_tokens of more than {count}")
    sampled = rng.choice(others, count - always_count, replace=False)
    offsets = np.zeros(count, dtype=np.float32)
    offsets[always_count:] = np.log(len(others) / max(len(sampled), 1))
    tokens = np.concatenate([always, sampled])
    return HeadSample(torch.from_numpy(tokens), torch.from_numpy(offsets), torch.from_numpy(positions.reshape(-1)))


class FullLoss(nn.Module):
    """Inputs (B, T) and targets (B * T,) -> mean next-token loss in nats over the whole vocabulary."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets)


class SampledLoss(nn.Module):
    """Inputs (B, T) and a HeadSample's tensors -> mean next-token loss in nats; compiled as one graph."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, tokens: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
        hidden = self.model.hidden(inputs).flatten(0, 1)
        logits = self.model.softcap(F.linear(hidden, self.model.head_weight[tokens]).float())
        return F.cross_entropy(logits + offsets, targets)
