"""The parts of a layer on rows of float32, compiled by numba: norms, activations, and matrix products of int8 weights.

Rows go through a product in groups of TILE_ROWS, the last one in the smallest tile that holds it.
"""

from __future__ import annotations

import math

import numpy as np

from inference_service.engine.kernels.jit import compiled
from inference_service.engine.kernels.simd import (
    HAS_BFLOAT16,
    LANES,
    TILE_ROWS,
    pair1,
    pair4,
    pair8,
    pair12,
    settle,
    tile1,
    tile4,
    tile8,
    tile12,
    tile16,
    widen,
)

f32 = np.float32

PACKED = np.int32 if HAS_BFLOAT16 else f32
"""What products read their inputs as: pairs of bfloat16 where there are instructions for them, else float32."""

RELU2, GELU, GELU_TANH, SWIGLU = range(4)
INFINITE, NAN = np.int32(0x7F800000), np.int32(0x7FC00000)  # bits of float32
# Inputs in float32 of so many groups of rows stay in the second-level cache while weights pass by.
_GROUPS_AT_ONCE = 128 // TILE_ROWS


@compiled
def group(rows, number):  # type: ignore[no-untyped-def]
    """First row, rows, and size of the tile of a group; no rows beyond the last one."""
    row = number * TILE_ROWS
    left = min(max(rows - row, 0), TILE_ROWS)
    size = 1 if left <= 1 else 4 if left <= 4 else 8 if left <= 8 else TILE_ROWS
    return row, left, size


@compiled
def groups(rows):  # type: ignore[no-untyped-def]
    """How many groups there are."""
    return -(-rows // TILE_ROWS)


@compiled
def pack(x, row, size, packed):  # type: ignore[no-untyped-def]
    """x (up to `size` rows, k) as the group that begins at `row`, in the tiles' order; see PACKED."""
    k = x.shape[1]
    if HAS_BFLOAT16:
        bits = x.view(np.uint32)
        for r in range(x.shape[0]):
            at, line = row * (k // 2) + r, bits[r]
            for j in range(k // 2):
                low, high = line[2 * j], line[2 * j + 1]  # both rounded to the nearest, ties to even
                low = (low + np.uint32(0x7FFF) + ((low >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                high = (high + np.uint32(0x7FFF) + ((high >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
                packed[at + j * size] = np.int32(low | high)
    else:
        for r in range(x.shape[0]):
            at, line = row * k + r, x[r]
            for j in range(k):
                packed[at + j * size] = line[j]


@compiled
def _tile(size, weight, start, x, first, k, out):  # type: ignore[no-untyped-def]
    if size == 16:
        tile16(weight, start, LANES, x, first, k, out)
    elif size == 12:
        tile12(weight, start, LANES, x, first, k, out)
    elif size == 8:
        tile8(weight, start, LANES, x, first, k, out)
    elif size == 4:
        tile4(weight, start, LANES, x, first, k, out)
    else:
        tile1(weight, start, LANES, x, first, k, out)


@compiled
def _pair(size, weight, x, first, k, out):  # type: ignore[no-untyped-def]
    if size == 12:
        pair12(weight, 0, 2 * LANES, x, first, k, out)
    elif size == 8:
        pair8(weight, 0, 2 * LANES, x, first, k, out)
    elif size == 4:
        pair4(weight, 0, 2 * LANES, x, first, k, out)
    else:
        pair1(weight, 0, 2 * LANES, x, first, k, out)


@compiled
def _settle_last(sums, count, scale, bias, column, out, row, adding):  # type: ignore[no-untyped-def]
    """As `simd.settle` for the columns that are left where there are less than 16."""
    for r in range(count):
        target, source = out[row + r, column:], sums[r]
        for j in range(target.shape[0]):
            value = source[j] * scale[column + j]
            if bias.shape[0]:
                value += bias[column + j]
            target[j] = target[j] + value if adding else value


@compiled
def _panel(weight, start, k, x, width, some, rows, scale, bias, column, out, adding, sums):  # type: ignore[no-untyped-def]
    """16 columns of out for `some` of the groups of rows (first, last + 1)."""
    n, flat = out.shape[1], out.reshape(-1)
    for number in range(some[0], some[1]):
        row, count, size = group(rows, number)
        _tile(size, weight, start, x, row * width, k, sums)
        if column + LANES <= n:
            for r in range(count):
                settle(sums, r, scale, bias, column, flat, (row + r) * n + column, adding)  # type: ignore[call-arg]
        else:
            _settle_last(sums, count, scale, bias, column, out, row, adding)


@compiled
def _panel_pair(wide, k, x, width, rows, scale, bias, column, out, adding, sums):  # type: ignore[no-untyped-def]
    """As `_panel`, 32 columns, all within out, and all groups; wide (k / 2, 32) as `widen` made it."""
    n, flat = out.shape[1], out.reshape(-1)
    for number in range(groups(rows)):
        row, count, size = group(rows, number)
        _pair(size, wide, x, row * width, k, sums)
        for r in range(count):
            at = (row + r) * n + column
            settle(sums, 2 * r, scale, bias, column, flat, at, adding)  # type: ignore[call-arg]
            settle(sums, 2 * r + 1, scale, bias, column + LANES, flat, at + LANES, adding)


@compiled
def _widened(weight, start, k, panels, x, width, rows, scale, bias, out, adding, sums):  # type: ignore[no-untyped-def]
    """`multiply` of many rows in bfloat16: weights are widened once for all of them."""
    wide, every = np.empty(k * LANES, np.int32), (0, groups(rows))
    whole = min(panels[1], out.shape[1] // LANES)  # the last panel may have less than 16 columns
    panel = panels[0]
    while panel < panels[1]:
        column, first = panel * LANES, start + panel * LANES * k
        if panel + 1 < whole:
            widen(weight, first, k, wide, 0, 2 * LANES)  # type: ignore[call-arg]
            widen(weight, first + LANES * k, k, wide, LANES, 2 * LANES)
            _panel_pair(wide, k, x, width, rows, scale, bias, column, out, adding, sums)
            panel += 2
        else:
            widen(weight, first, k, wide, 0, LANES)  # type: ignore[call-arg]
            _panel(wide, 0, k, x, width, every, rows, scale, bias, column, out, adding, sums)
            panel += 1


# One function for each tile of few rows, which is what a person waits for: in a small one the numbers of the innermost
# loop are in registers, in one that chooses among tiles they were not.
@compiled
def _rows_1(weight, start, k, panels, x, scale, bias, rows, out, adding, sums):  # type: ignore[no-untyped-def]
    n, flat = out.shape[1], out.reshape(-1)
    for panel in range(panels[0], panels[1]):
        column = panel * LANES
        tile1(weight, start + column * k, LANES, x, 0, k, sums)
        if column + LANES <= n:
            for r in range(rows):
                settle(sums, r, scale, bias, column, flat, r * n + column, adding)  # type: ignore[call-arg]
        else:
            _settle_last(sums, rows, scale, bias, column, out, 0, adding)


@compiled
def _rows_4(weight, start, k, panels, x, scale, bias, rows, out, adding, sums):  # type: ignore[no-untyped-def]
    n, flat = out.shape[1], out.reshape(-1)
    for panel in range(panels[0], panels[1]):
        column = panel * LANES
        tile4(weight, start + column * k, LANES, x, 0, k, sums)
        if column + LANES <= n:
            for r in range(rows):
                settle(sums, r, scale, bias, column, flat, r * n + column, adding)  # type: ignore[call-arg]
        else:
            _settle_last(sums, rows, scale, bias, column, out, 0, adding)


@compiled
def _rows_8(weight, start, k, panels, x, scale, bias, rows, out, adding, sums):  # type: ignore[no-untyped-def]
    n, flat = out.shape[1], out.reshape(-1)
    for panel in range(panels[0], panels[1]):
        column = panel * LANES
        tile8(weight, start + column * k, LANES, x, 0, k, sums)
        if column + LANES <= n:
            for r in range(rows):
                settle(sums, r, scale, bias, column, flat, r * n + column, adding)  # type: ignore[call-arg]
        else:
            _settle_last(sums, rows, scale, bias, column, out, 0, adding)


@compiled
def _rows_12(weight, start, k, panels, x, scale, bias, rows, out, adding, sums):  # type: ignore[no-untyped-def]
    n, flat = out.shape[1], out.reshape(-1)
    for panel in range(panels[0], panels[1]):
        column = panel * LANES
        tile12(weight, start + column * k, LANES, x, 0, k, sums)
        if column + LANES <= n:
            for r in range(rows):
                settle(sums, r, scale, bias, column, flat, r * n + column, adding)  # type: ignore[call-arg]
        else:
            _settle_last(sums, rows, scale, bias, column, out, 0, adding)


@compiled
def multiply(weight, start, k, panels, x, width, rows, scale, bias, out, adding):  # type: ignore[no-untyped-def]
    """Columns of out (rows, n) that lie in `panels` (first, last + 1) = x @ weights * scale + bias, or added to out.

    weight: flat packed int8, the matrix begins at `start`; x: all groups of rows, each row `width` elements, as `pack`
    wrote them; scale (n,); bias (n,) or empty.
    """
    sums = np.empty((2 * TILE_ROWS, LANES), f32)
    if rows == 1:
        _rows_1(weight, start, k, panels, x, scale, bias, rows, out, adding, sums)
    elif rows <= 4:
        _rows_4(weight, start, k, panels, x, scale, bias, rows, out, adding, sums)
    elif rows <= min(TILE_ROWS, 8):
        _rows_8(weight, start, k, panels, x, scale, bias, rows, out, adding, sums)
    elif HAS_BFLOAT16 and rows <= TILE_ROWS:
        _rows_12(weight, start, k, panels, x, scale, bias, rows, out, adding, sums)
    elif HAS_BFLOAT16:
        _widened(weight, start, k, panels, x, width, rows, scale, bias, out, adding, sums)
    else:
        for number in range(0, groups(rows), _GROUPS_AT_ONCE):
            some = number, min(number + _GROUPS_AT_ONCE, groups(rows))
            for panel in range(panels[0], panels[1]):
                column, first = panel * LANES, start + panel * LANES * k
                _panel(weight, first, k, x, width, some, rows, scale, bias, column, out, adding, sums)


@compiled
def rms_norm(x, out, eps):  # type: ignore[no-untyped-def]
    squares = f32(0)
    for j in range(x.shape[0]):
        squares += x[j] * x[j]
    factor = f32(1 / math.sqrt(max(squares / f32(x.shape[0]) + eps, f32(1e-15))))
    for j in range(x.shape[0]):
        out[j] = x[j] * factor


@compiled
def _layer_norm(x, out, eps):  # type: ignore[no-untyped-def]
    mean = f32(0)
    for j in range(x.shape[0]):
        mean += x[j]
    mean /= f32(x.shape[0])
    squares = f32(0)
    for j in range(x.shape[0]):
        squares += (x[j] - mean) * (x[j] - mean)
    factor = f32(1 / math.sqrt(squares / f32(x.shape[0]) + eps))
    for j in range(x.shape[0]):
        out[j] = (x[j] - mean) * factor


@compiled
def norm(x, out, norms, number, shape):  # type: ignore[no-untyped-def]
    """One row through norm `number`; x and out may be the same."""
    if shape.layer_norm:
        _layer_norm(x, out, f32(shape.eps))
    else:
        rms_norm(x, out, f32(shape.eps))
    if norms.gain.shape[0]:
        gain = norms.gain[number]
        for j in range(out.shape[0]):
            out[j] *= gain[j]
    if norms.bias.shape[0]:
        bias = norms.bias[number]
        for j in range(out.shape[0]):
            out[j] += bias[j]


@compiled
def exp(x):  # type: ignore[no-untyped-def]
    """e**x for x <= 0 by range reduction and a polynomial (Cephes expf): unlike libm's it vectorises."""
    x = max(x, f32(-87.0))
    n = f32(np.floor(x * f32(1.44269504) + f32(0.5)))
    r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1)) * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def _erf(x):  # type: ignore[no-untyped-def]
    """The error function to 6e-7 (Abramowitz & Stegun 7.1.26): unlike libm's it vectorises."""
    t = f32(1) / (f32(1) + f32(0.3275911) * abs(x))
    p = f32(1.061405429)
    p = p * t - f32(1.453152027)
    p = p * t + f32(1.421413741)
    p = p * t - f32(0.284496736)
    p = p * t + f32(0.254829592)
    y = f32(1) - p * t * exp(-x * x)
    return y if x > 0 else -y


@compiled
def _tanh(x):  # type: ignore[no-untyped-def]
    small = exp(f32(-2) * abs(x))
    y = (f32(1) - small) / (f32(1) + small)
    return y if x > 0 else -y


@compiled
def soften(x, cap):  # type: ignore[no-untyped-def]
    """cap * tanh(x / cap) in place; NaN for what is not finite."""
    bits = x.view(np.int32)
    for j in range(x.shape[0]):
        broken = np.int32(bits[j] & INFINITE) == INFINITE
        y = f32(cap * _tanh(x[j] / cap)).view(np.int32)
        bits[j] = NAN if broken else y


@compiled
def activate(x, out, kind):  # type: ignore[no-untyped-def]
    """out (n,) of x (n,), of a gated activation x (2 n,): gate, then what it opens; x and out may be the same."""
    n = out.shape[0]
    if kind == RELU2:
        for j in range(n):
            positive = max(x[j], f32(0))
            out[j] = positive * positive
    elif kind == GELU:
        for j in range(n):
            out[j] = f32(0.5) * x[j] * (f32(1) + _erf(x[j] * f32(0.70710678)))
    elif kind == GELU_TANH:
        for j in range(n):
            u = f32(0.79788456) * (x[j] + f32(0.044715) * x[j] * x[j] * x[j])
            out[j] = f32(0.5) * x[j] * (f32(1) + _tanh(u))
    else:
        for j in range(n):
            small = exp(-abs(x[j]))
            sigmoid = (f32(1) if x[j] > 0 else small) / (f32(1) + small)
            out[j] = x[j] * sigmoid * x[j + n]
