"""Muon (Jordan et al. 2024) for the matrices of the blocks; AdamW from torch for the rest, or for everything."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from inference_service.model.gpt import GPT
from training.precision import matrix_type
from training.recipe import TrainConfig

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_BETAS = (0.9, 0.95)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration.

    Momentum is kept on every process; of the costly iteration each does its share, and the updates are summed
    over the processes.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        """`dtype` is what the iteration is computed in."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

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
            mine: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for turn, i in enumerate(order):
                gradient = params[i].grad
                assert gradient is not None
                buffer = self.state[params[i]].setdefault("momentum", torch.zeros_like(gradient))
                buffer.lerp_(gradient, 1 - momentum)
                if turn % world == rank:
                    mine.setdefault(params[i].shape, []).append((updates[i], gradient.lerp(buffer, momentum)))
            for pairs in mine.values():  # equal shapes at once, for a GPU would wait for each launch
                found = orthogonalise(torch.stack([direction for _, direction in pairs]).to(self._dtype))
                torch._foreach_copy_([update for update, _ in pairs], list(found.unbind()))
            if world > 1:
                dist.all_reduce(flat)
            for parameter, update in zip(params, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices (..., M, N), roughly: singular values end up in about 0.7..1.2."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def build_optimizers(model: GPT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks and AdamW for everything else, or AdamW for all; as the recipe says.

    Everything else is embeddings, positions, gains, biases and an untied head. AdamW decays only matrices, and
    beside Muon nothing. Each group's "peak_lr" is what the schedule multiplies.
    """
    if config.optimizer == "adamw":
        matrices = [p for p in model.parameters() if p.dim() == 2]
        vectors = [p for p in model.parameters() if p.dim() != 2]
        decayed = {"params": matrices, "weight_decay": config.weight_decay}
        optimizers: list[torch.optim.Optimizer] = [_adamw([decayed, {"params": vectors}], config)]
    else:
        matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
        taken = set(map(id, matrices))
        rest = [p for p in model.parameters() if id(p) not in taken]
        optimizers = [
            Muon(
                matrices,
                config.muon_lr,
                config.momentum,
                config.weight_decay,
                matrix_type(config, matrices[0].device),
            ),
            _adamw([{"params": rest}], config),
        ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _adamw(groups: list[dict[str, object]], config: TrainConfig) -> torch.optim.AdamW:
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.adam_lr, betas=_BETAS, weight_decay=0.0, fused=True)
