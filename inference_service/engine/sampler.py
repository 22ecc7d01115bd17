"""From logits to tokens, for all rows of a step at once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_COLDEST = 1e-4  # below that the quotient would overflow, and it is greedy anyway


@dataclass(frozen=True, slots=True)
class Sampling:
    """Greedy at temperature 0, else temperature, top-k, top-p (Holtzman et al. 2020) and min-p (Nguyen et al. 2024),
    in that order; `top_k` 0, `top_p` 1 and `min_p` 0 are off. Without a seed one is drawn."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbits(64))

    def uniform(self, number: int) -> float:
        """The random number in 0..1 that picks generated token `number`.

        It depends on the seed and the number only (Salmon et al. 2011, counter-based), so a seed gives the same
        text whatever else is in the batch, and a guessed token is checked against the one that would be drawn.
        """
        assert self.seed is not None
        return float(np.random.Generator(np.random.Philox(key=self.seed & (2**64 - 1), counter=number)).random())


class Row(NamedTuple):
    """How to sample one row: `number` counts the generated tokens; with `allowed` only those ids can come out."""

    sampling: Sampling
    number: int
    allowed: np.ndarray | None = None

    @property
    def is_greedy(self) -> bool:
        """The most probable token, of those that are allowed."""
        return self.sampling.temperature <= 0


class Sampled(NamedTuple):
    """A token and its log probability in nats before temperature and cuts; NaN when the logits were not finite."""

    token: int
    logprob: float


def pick_greedy(logits: Tensor) -> Tensor:
    """logits (R, V) -> (2, R) float64: the most probable token of each row, and its log probability in nats."""
    highest, tokens = logits.max(-1)
    return torch.stack([tokens.double(), (highest - logits.logsumexp(-1)).double()])


def sample(logits: Tensor, rows: Sequence[Row]) -> list[Sampled]:
    """logits (R, V) float32 on any device, one for each of `rows`. One copy to the host for all of them."""
    return to_host(pick(logits, rows))


def to_host(packed: Tensor) -> list[Sampled]:
    """What `pick` has picked; waits for the device."""
    return [Sampled(int(token), logprob) for token, logprob in zip(*packed.tolist(), strict=True)]


def pick(logits: Tensor, rows: Sequence[Row], greedy: Tensor | None = None) -> Tensor:
    """`sample` without the copy to the host: tokens and log probabilities (2, R) float64.

    `greedy` is `pick_greedy` of the logits, where that is computed already.
    """
    if all(row.is_greedy for row in rows):
        return _among_allowed(pick_greedy(logits) if greedy is None else greedy, logits, rows)
    normaliser = logits.logsumexp(-1)
    scores = logits
    if any(row.allowed is not None for row in rows):
        scores = logits.clone()
        for i, row in enumerate(rows):
            if row.allowed is not None:
                allowed = torch.from_numpy(row.allowed).to(logits.device)
                scores[i] = torch.full_like(scores[i], -torch.inf).index_copy_(0, allowed, logits[i, allowed])
    tokens = scores.argmax(-1)
    drawn = [i for i, row in enumerate(rows) if not row.is_greedy]
    if drawn:
        index = torch.tensor(drawn, device=logits.device)
        tokens[index] = _draw(scores[index], [rows[i] for i in drawn])
    logprobs = logits.gather(-1, tokens[:, None])[:, 0] - normaliser
    return torch.stack([tokens.double(), logprobs.double()])


def _among_allowed(greedy: Tensor, logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """`greedy` with the most probable of the allowed tokens where not all of them are allowed."""
    for i, row in enumerate(rows):
        if row.allowed is not None:
            allowed = torch.from_numpy(row.allowed).to(logits.device)
            best = allowed[logits[i, allowed].argmax()]
            highest = logits[i, greedy[0, i].long()]
            greedy[1, i] -= highest - logits[i, best]
            greedy[0, i] = best
    return greedy


def _draw(scores: Tensor, rows: Sequence[Row]) -> Tensor:
    """(R, V) -> (R,) token ids by the inverse of the cumulated probability, most probable tokens first."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=scores.device)[:, None]

    temperature = column([max(row.sampling.temperature, _COLDEST) for row in rows])
    values, order = (scores / temperature).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scores.shape[-1], device=scores.device)
    top_k = column([float(row.sampling.top_k or scores.shape[-1]) for row in rows])
    probabilities = values.masked_fill(rank >= top_k, -torch.inf).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    cut = before >= column([row.sampling.top_p if row.sampling.top_p < 1 else 2.0 for row in rows])
    cut |= probabilities < column([row.sampling.min_p for row in rows]) * probabilities[:, :1]
    kept = probabilities.masked_fill(cut, 0.0)
    cumulated = kept.cumsum(-1)
    target = column([row.sampling.uniform(row.number) for row in rows]) * cumulated[:, -1:]
    choice = torch.searchsorted(cumulated, target, right=True).clamp_max((kept > 0).sum(-1, keepdim=True) - 1)
    return order.gather(-1, choice)[:, 0]
