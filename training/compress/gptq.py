"""Rounding with error compensation (Frantar et al. 2022, "GPTQ", algorithm 1).

The columns of a matrix are rounded one after the other; the error of each is spread over the columns that are still
to come, by the inverse Hessian of the layer's squared output error on calibration data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from inference_service.model.directory import is_matrix
from inference_service.model.gpt import GPT, StackedLinear
from training.compress.grids import Grid

Quantized = dict[str, tuple[Tensor, Tensor]]

_DAMPING = 0.01  # of the Hessian's mean diagonal
_BATCH = 8  # calibration rows a forward pass


def round_to_nearest(model: GPT, grid: Grid) -> Quantized:
    """(codes, scale) by parameter name of every projection and every table of embeddings, each weight for itself."""
    projections = {name: weight for name, (_, weight) in _projections(model).items()}
    return {name: grid.nearest(weight) for name, weight in {**projections, **_tables(model)}.items()}


@torch.no_grad()
def gptq(model: GPT, rows: Tensor, grid: Grid, progress: Callable[[str], object] = lambda _: None) -> Quantized:
    """(codes, scale) by parameter name of every projection and every table; `model` itself is left rounded.

    `rows` (N, T) int64 are the calibration tokens. From first to last, each part is done on what the already rounded
    ones before it put out. Raises ValueError when a matrix does not fit the grid.
    """
    tables = _tables(model)
    head = "embedding.weight" if model.unembedding is None else "unembedding.weight"
    done = {}
    for name in tables.keys() - {head}:  # there are no products whose error could be spread
        done[name] = grid.nearest(tables[name])
        tables[name].copy_(grid.widen(*done[name]))
    for index, block in enumerate(model.blocks):
        progress(f"block {index + 1} of {len(model.blocks)}")
        projections = _projections(model, f"blocks.{index}.")
        hessians = _hessians(model, block, {module for module, _ in projections.values()}, rows)
        for name, (module, weight) in projections.items():
            done[name] = _round(weight, hessians[module], grid)
    progress("head")
    done[head] = _round(model.head_weight, _head_hessian(model, rows), grid)
    return done


def _tables(model: GPT) -> dict[str, Tensor]:
    """The embeddings of tokens and of pairs of them, by parameter name; positions are not quantized."""
    return {
        f"{name}.weight": table.weight
        for name, table in model.named_children()
        if isinstance(table, nn.Embedding) and is_matrix(f"{name}.weight", table.weight)
    }


def _round(weight: Tensor, hessian: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    rounded = compensate(weight, hessian, grid)
    weight.copy_(grid.widen(*rounded))
    return rounded


def compensate(weight: Tensor, hessian: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Weights (out, in) and the Hessian (in, in) of their inputs -> int8 codes (out, in) and their scales.

    Raises ValueError when the matrix does not fit the grid.
    """
    columns = grid.columns(weight)
    left = weight.detach().float().clone()
    spread = _inverse_cholesky(hessian).float()
    codes = torch.empty_like(left)
    scales = []
    for start in range(0, left.shape[1], columns):
        stop = start + columns
        scale = grid.scale(left[:, start:stop])
        errors = torch.empty_like(left[:, start:stop])
        for column in range(start, stop):
            codes[:, column] = grid.round(left[:, column], scale)
            error = (left[:, column] - codes[:, column] * scale.float()) / spread[column, column]
            left[:, column + 1 : stop] -= error[:, None] * spread[column, column + 1 : stop]
            errors[:, column - start] = error
        left[:, stop:] -= errors @ spread[start:stop, stop:]  # one product for all later parts
        scales.append(scale)
    return codes.to(torch.int8), grid.join(scales)


def _inverse_cholesky(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse: its rows say how an error spreads to the right."""
    hessian = hessian.double()
    # an input that is always zero would make the matrix singular
    damping = (_DAMPING * hessian.diagonal().mean()).clamp_min(1e-8)
    lower = torch.linalg.cholesky(hessian + damping * torch.eye(len(hessian)))
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


def _projections(model: GPT, prefix: str = "") -> dict[str, tuple[nn.Module, Tensor]]:
    """Every matrix of the linear layers whose name begins with `prefix`, with the layer that multiplies with it."""
    return {
        f"{path}.{name}": (module, parameter)
        for path, module in model.named_modules()
        if path.startswith(prefix) and isinstance(module, nn.Linear | StackedLinear)
        for name, parameter in module.named_parameters()
        if parameter.dim() == 2
    }


class _Enough(Exception):
    """Ends a forward pass: the later blocks do not matter."""


def _hessians(model: GPT, block: nn.Module, layers: set[nn.Module], rows: Tensor) -> dict[nn.Module, Tensor]:
    """The sum of x xᵀ over all inputs x of each of the `layers` of `block`."""
    sums: dict[nn.Module, Tensor] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2)
        sums[layer] = sums.get(layer, 0) + x.T @ x

    def stop(*_: object) -> None:
        raise _Enough

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    hooks.append(block.register_forward_hook(stop))
    try:
        for batch in rows.split(_BATCH):
            with suppress(_Enough):
                model.hidden(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _head_hessian(model: GPT, rows: Tensor) -> Tensor:
    states = (model.hidden(batch).flatten(0, 1) for batch in rows.split(_BATCH))
    return sum((x.T @ x for x in states), torch.zeros(()))
