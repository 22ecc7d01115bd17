"""Muon (Jordan et al. 2024) for the matrices of the blocks; AdamW from torch for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration.

    Momentum is kept on every process; of the costly iteration each does its share, and the updates are summed
    over the processes.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for group in self.param_groups:
            params: list[Tensor] = group["params"]
            momentum = group["momentum"]
            flat = torch.zeros(sum(p.numel() for p in params), device=params[0].device)
            updates = [u.view_as(p) for u, p in zip(flat.split([p.numel() for p in params]), params, strict=True)]
            # longest first and dealt in turn, so that the shares weigh about the same
            order = sorted(range(len(params)), key=lambda i: -params[i].numel())
            for turn, i in enumerate(order):
                gradient = params[i].grad
                assert gradient is not None
                buffer = self.state[params[i]].setdefault("momentum", torch.zeros_like(gradient))
                buffer.lerp_(gradient, 1 - momentum)
                if turn % world == rank:
                    updates[i].copy_(orthogonalise(gradient.lerp(buffer, momentum)))
            if world > 1:
                dist.all_reduce(flat)
            for parameter, update in zip(params, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: singular values end up in about 0.7..1.2."""
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix  # many CPUs multiply bfloat16 slower than float32
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
