"""What a matrix (out, in) can be rounded to: int8 rows, or int4 groups. Codes are int8 (out, in)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from inference_service.model import int4
from inference_service.model.quantize import dequantize_rows, quantize_rows, round_to_row, row_scale


class Grid(Protocol):
    """Codes and their scales."""

    def columns(self, weight: Tensor) -> int:
        """How many columns share a scale. Raises ValueError when the matrix does not consist of such parts."""

    def scale(self, part: Tensor) -> Tensor:
        """(out, columns) -> (out,)."""

    def round(self, column: Tensor, scale: Tensor) -> Tensor:
        """(out,), (out,) -> codes (out,) as floats."""

    def join(self, scales: Sequence[Tensor]) -> Tensor:
        """The scales of all parts as they are stored."""

    def nearest(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and stored scales, each weight rounded for itself. Raises ValueError as `columns` does."""

    def widen(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The float32 weights of codes and stored scales."""


class Rows:
    """int8, a float32 scale (out,)."""

    columns = staticmethod(lambda weight: weight.shape[1])
    scale = staticmethod(row_scale)
    round = staticmethod(round_to_row)
    nearest = staticmethod(quantize_rows)
    widen = staticmethod(dequantize_rows)

    def join(self, scales: Sequence[Tensor]) -> Tensor:
        [scale] = scales
        return scale


@dataclass(frozen=True)
class Groups:
    """int4, float16 scales (out, groups), each for `group` columns."""

    group: int

    scale = staticmethod(int4.group_scale)
    round = staticmethod(int4.round_to)
    widen = staticmethod(int4.dequantize_groups)

    def columns(self, weight: Tensor) -> int:
        int4.check_groups(weight, self.group)
        return self.group

    def join(self, scales: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(scales), dim=1)

    def nearest(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return int4.quantize_groups(weight, self.group)
