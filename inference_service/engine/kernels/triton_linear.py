"""Matrix product with int8 weights, the norm of its input and what follows it, as one kernel; twin: `plain.linear`.

Small batches are bound by launches and by reading the weights once: every program norms the few rows for itself, and
the widened weights never leave the registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_service.engine.kernels.parts import Norm, Projection

_NORMS = {"rms": 1, "layer": 2}
_ACTIVATIONS = {"": 0, "relu2": 1, "gelu": 2, "gelu_tanh": 3, "swiglu": 4}


@triton.jit
def _normed(  # type: ignore[no-untyped-def]
    x, gain, bias, mean, factor, rows, real_rows, k, K,
    NORM: tl.constexpr, GAIN: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """(rows, k) of x, normed with the statistics of the rows."""
    real = k < K
    tile = tl.load(x + rows[:, None] * K + k[None, :], mask=real_rows[:, None] & real[None, :], other=0.0)
    if NORM:
        tile = (tile - mean[:, None]) * factor[:, None]
        if GAIN:
            tile *= tl.load(gain + k, mask=real, other=0.0)[None, :]
        if BIAS:
            tile += tl.load(bias + k, mask=real, other=0.0)[None, :]
        tile = tl.where(real[None, :], tile, 0.0)
    return tile


@triton.jit
def _product(  # type: ignore[no-untyped-def]
    x, weight, scale, bias, gain, shift, mean, factor, rows, real_rows, columns, real_columns, K,
    NORM: tl.constexpr, GAIN: tl.constexpr, SHIFT: tl.constexpr, BIAS: tl.constexpr, TYPE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """(BLOCK_M, BLOCK_N) float32 of norm(x) @ weight.T * scale + bias at some rows and columns."""
    if BLOCK_M == 1:  # noqa: SIM108 (compiled for one of them)
        sums = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    else:
        sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        tile = _normed(x, gain, shift, mean, factor, rows, real_rows, k, K, NORM, GAIN, SHIFT)
        at = columns.to(tl.int64)[:, None] * K + k[None, :]
        w = tl.load(weight + at, mask=real_columns[:, None] & (k < K)[None, :], other=0)
        if BLOCK_M == 1:
            sums += w.to(tl.float32) * tile
        else:
            sums += tl.dot(tile.to(TYPE), tl.trans(w.to(TYPE)), input_precision="ieee")
    if BLOCK_M == 1:
        sums = tl.sum(sums, axis=1)[None, :]
    y = sums * tl.load(scale + columns, mask=real_columns, other=0.0)[None, :]
    if BIAS:
        y += tl.load(bias + columns, mask=real_columns, other=0.0)[None, :]
    return y


@triton.jit
def _linear(  # type: ignore[no-untyped-def]
    x, weight, scale, bias, gain, shift, out, M, N, K, EPS: tl.constexpr, NORM: tl.constexpr,
    GAIN: tl.constexpr, SHIFT: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, ADD: tl.constexpr,
    TYPE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    real_rows, real_columns = rows < M, columns < N
    mean, factor = tl.zeros((BLOCK_M,), tl.float32), tl.full((BLOCK_M,), 1.0, tl.float32)
    if NORM:
        sums, squares = tl.zeros((BLOCK_M,), tl.float32), tl.zeros((BLOCK_M,), tl.float32)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            mask = real_rows[:, None] & (k < K)[None, :]
            tile = tl.load(x + rows[:, None] * K + k[None, :], mask=mask, other=0.0)
            sums += tl.sum(tile, axis=1)
            squares += tl.sum(tile * tile, axis=1)
        if NORM == 2:
            mean = sums / K
            factor = 1.0 / tl.sqrt(tl.maximum(squares / K - mean * mean, 0.0) + EPS)
        else:
            # without an eps, all-zero rows stay zero
            factor = 1.0 / tl.sqrt(tl.maximum(squares / K + EPS, 1e-15))
    y = _product(
        x, weight, scale, bias, gain, shift, mean, factor, rows, real_rows, columns, real_columns, K,
        NORM, GAIN, SHIFT, BIAS, TYPE, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    if ACTIVATION == 1:
        y = tl.maximum(y, 0.0)
        y *= y
    elif ACTIVATION == 2:
        y *= 0.5 * (1.0 + tl.erf(y * 0.7071067811865476))
    elif ACTIVATION == 3:
        y *= tl.sigmoid(1.5957691216057308 * (y + 0.044715 * y * y * y))
    elif ACTIVATION == 4:
        # the rows of the second half of the weight
        up = _product(
            x, weight, scale, bias, gain, shift, mean, factor, rows, real_rows, columns + N, real_columns, K,
            NORM, GAIN, SHIFT, BIAS, TYPE, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        y *= tl.sigmoid(y) * up
    at = out + rows.to(tl.int64)[:, None] * N + columns[None, :]
    mask = real_rows[:, None] & real_columns[None, :]
    if ADD:
        y += tl.load(at, mask=mask, other=0.0)
    tl.store(at, y, mask=mask)


class Tile(NamedTuple):
    """What one program computes."""

    rows: int
    columns: int
    depth: int


def tile(rows: int, columns: int, depth: int, processors: int) -> Tile:
    """As large as leaves every processor a program: fewer programs read the rows less often."""
    m = 1 if rows == 1 else min(max(16, triton.next_power_of_2(rows)), 64)
    sizes = (16, 8, 4) if m == 1 else (64, 32, 16)
    down = triton.cdiv(rows, m)
    n = next((size for size in sizes if triton.cdiv(columns, size) * down >= processors), sizes[-1])
    return Tile(m, n, min(256 if m == 1 else 128, max(16, triton.next_power_of_2(depth))))


def linear(
    x: Tensor, projection: Projection, norm: Norm | None = None, activation: str = "", residual: Tensor | None = None
) -> Tensor:
    """activation(norm(x) @ W.T + bias), x (N, in) float32 -> (N, out) float32; added to `residual` in place."""
    rows, depth = x.shape
    columns = projection.weight.shape[0] // (2 if activation == "swiglu" else 1)
    out = torch.empty(rows, columns, device=x.device) if residual is None else residual
    m, n, k = tile(rows, columns, depth, processors(x.device))
    gain, shift = (norm.gain, norm.bias) if norm else (None, None)
    _linear[triton.cdiv(columns, n), triton.cdiv(rows, m)](
        x, projection.weight, projection.scale, projection.bias, gain, shift, out, rows, columns, depth,
        EPS=norm.eps if norm else 0.0, NORM=_NORMS[norm.kind] if norm else 0,
        GAIN=gain is not None, SHIFT=shift is not None, BIAS=projection.bias is not None,
        ACTIVATION=_ACTIVATIONS[activation], ADD=residual is not None, TYPE=dot_type(x.device),
        BLOCK_M=m, BLOCK_N=n, BLOCK_K=k,
    )  # fmt: skip
    return out


def processors(device: torch.device) -> int:
    """Multiprocessors of the GPU; 1 under the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def dot_type(device: torch.device) -> Any:
    """What tensor cores multiply: int8 weights are exact in bfloat16. The interpreter has no bfloat16."""
    return tl.bfloat16 if device.type == "cuda" else tl.float32
