"""What the kernels of a step compute with: norms and int8 projections of a model, and the rows of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inference_service.model.config import GPTConfig, NormKind
from inference_service.model.quantize import quantize_rows

Int8Matrices = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Norm:
    """Over the model width; `gain` and `bias` (C,) float32 where the model has them."""

    kind: NormKind
    eps: float
    gain: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """int8 weight (out, in), float32 scale (out,) and bias (out,). A gated projection has the gate's rows first."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None = None


class Rows(NamedTuple):
    """One token a row, int32: each is written to its slot and sees the positions of its table up to its own.

    tokens, previous, positions, slots (N,); tables (N, blocks of the longest sequence).
    """

    tokens: Tensor
    previous: Tensor
    positions: Tensor
    slots: Tensor
    tables: Tensor


class Parts:
    """Looks a model's norms and projections up by their names; matrices that `int8` lacks are quantized here."""

    def __init__(
        self, config: GPTConfig, parameters: Mapping[str, Tensor], int8: Int8Matrices, device: torch.device
    ) -> None:
        self._config, self._parameters, self._int8, self._device = config, parameters, int8, device

    def norm(self, name: str) -> Norm:
        c = self._config
        return Norm(c.norm, c.norm_eps, self.vector(f"{name}.weight"), self.vector(f"{name}.bias"))

    def projection(self, name: str) -> Projection:
        """`name.weight`, or the parts of a stacked projection in their order."""
        names = [key for key in self._parameters if key.startswith(f"{name}.") and self._parameters[key].dim() == 2]
        weights, scales = zip(
            *(self._int8.get(key) or quantize_rows(self._parameters[key]) for key in names), strict=True
        )
        weight, scale = torch.cat(weights).to(self._device), torch.cat(scales).float().to(self._device)
        return Projection(weight.contiguous(), scale.contiguous(), self.vector(f"{name}.bias"))

    def vector(self, name: str) -> Tensor | None:
        """A parameter as float32 on the device, None where the model has none of that name."""
        found = self._parameters.get(name)
        return None if found is None else found.detach().float().to(self._device).contiguous()
