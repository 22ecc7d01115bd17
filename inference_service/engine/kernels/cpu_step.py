"""The whole forward pass of a few tokens as one compiled function for CPUs.

With one row a step of a small model is bound by the call overhead of its hundred operators, not by arithmetic. Here
the weights stay int8 in memory, are widened in registers and multiplied with float32 activations (no rounding of
activations), attention reads the paged cache in place, and the interpreter is left once a step, without its lock.
Compiled by numba; the plain twin is `GPT.hidden` over a `PagedBatch`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

f32 = np.float32
_compiled = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


RELU2, GELU, GELU_TANH, SWIGLU = range(4)


class Matrix(NamedTuple):
    """One projection of every layer: int8 (layers, out, in), float32 scales (layers, out) and bias (layers, out).

    Arrays that a model does not have are empty.
    """

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class Norms(NamedTuple):
    """Gains and biases (norms, C) float32: two a layer, then the final one."""

    gain: np.ndarray
    bias: np.ndarray


class Weights(NamedTuple):
    """All of a model but its embeddings and head, and the rotary tables (context, D / 2) float32."""

    qkv: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    norms: Norms
    cos: np.ndarray
    sin: np.ndarray


class Shape(NamedTuple):
    """Which variant of the decoder it is; see GPTConfig."""

    layer_norm: bool
    eps: float
    embedding_norm: bool
    qk_norm: bool
    activation: int


@_compiled
def matmul(weight, scale, x, out):  # type: ignore[no-untyped-def]
    """out (rows, n) = x (rows, k) float32 @ (weight (n, k) int8 * scale (n,)).T; rows share widened weights."""
    n, k = weight.shape
    rows = x.shape[0]
    r = 0
    while rows - r >= 4:
        x0, x1, x2, x3 = x[r], x[r + 1], x[r + 2], x[r + 3]
        for i in range(n):
            row = weight[i]
            a, b, c, d = f32(0), f32(0), f32(0), f32(0)
            for j in range(k):
                w = f32(row[j])
                a += w * x0[j]
                b += w * x1[j]
                c += w * x2[j]
                d += w * x3[j]
            out[r, i] = a * scale[i]
            out[r + 1, i] = b * scale[i]
            out[r + 2, i] = c * scale[i]
            out[r + 3, i] = d * scale[i]
        r += 4
    while rows - r >= 2:
        x0, x1 = x[r], x[r + 1]
        for i in range(n):
            row = weight[i]
            a, b = f32(0), f32(0)
            for j in range(k):
                w = f32(row[j])
                a += w * x0[j]
                b += w * x1[j]
            out[r, i] = a * scale[i]
            out[r + 1, i] = b * scale[i]
        r += 2
    if r < rows:
        x0, y0 = x[r], out[r]
        for i in range(n):
            row = weight[i]
            a = f32(0)
            for j in range(k):
                a += f32(row[j]) * x0[j]
            y0[i] = a * scale[i]


@_compiled
def project(matrix, layer, x, out):  # type: ignore[no-untyped-def]
    """`matmul` with the layer's matrix, and its bias."""
    matmul(matrix.weight[layer], matrix.scale[layer], x, out)
    if matrix.bias.shape[0]:
        bias = matrix.bias[layer]
        for r in range(out.shape[0]):
            for i in range(out.shape[1]):
                out[r, i] += bias[i]


@_compiled
def _rms_norm(x, out, eps):  # type: ignore[no-untyped-def]
    squares = f32(0)
    for j in range(x.shape[0]):
        squares += x[j] * x[j]
    factor = f32(1 / math.sqrt(max(squares / f32(x.shape[0]) + eps, f32(1e-15))))
    for j in range(x.shape[0]):
        out[j] = x[j] * factor


@_compiled
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


@_compiled
def _norm(x, out, norms, number, shape):  # type: ignore[no-untyped-def]
    """Rows of x through norm `number`."""
    for r in range(x.shape[0]):
        if shape.layer_norm:
            _layer_norm(x[r], out[r], f32(shape.eps))
        else:
            _rms_norm(x[r], out[r], f32(shape.eps))
        if norms.gain.shape[0]:
            row, gain = out[r], norms.gain[number]
            for j in range(row.shape[0]):
                row[j] *= gain[j]
        if norms.bias.shape[0]:
            row, bias = out[r], norms.bias[number]
            for j in range(row.shape[0]):
                row[j] += bias[j]


@_compiled
def _exp(x):  # type: ignore[no-untyped-def]
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


@_compiled
def _attend(query, keys, values, slots, length, out, scores):  # type: ignore[no-untyped-def]
    """query, out (heads, D); keys, values (slots of the pool, KV heads, D); positions 0..length-1 are at `slots`."""
    heads, width = out.shape
    group = heads // keys.shape[1]
    scale = f32(1 / math.sqrt(f32(width)))
    for h in range(heads):
        g = h // group
        highest = f32(-1e30)
        for t in range(length):
            dot, slot = f32(0), slots[t]
            for d in range(width):
                dot += query[h, d] * keys[slot, g, d]
            scores[t] = dot * scale
            if scores[t] > highest:
                highest = scores[t]
        for t in range(length):
            scores[t] = _exp(scores[t] - highest)
        total = f32(0)
        for t in range(length):
            total += scores[t]
        inverse = f32(1) / total
        for d in range(width):
            out[h, d] = f32(0)
        for t in range(length):
            share, slot = scores[t] * inverse, slots[t]
            for d in range(width):
                out[h, d] += share * values[slot, g, d]


@_compiled
def _rotate(qk, cos, sin):  # type: ignore[no-untyped-def]
    half = cos.shape[0]
    for h in range(qk.shape[0]):
        row = qk[h]
        for d in range(half):
            left, right = row[d], row[d + half]
            row[d] = left * cos[d] - right * sin[d]
            row[d + half] = left * sin[d] + right * cos[d]


@_compiled
def _activate(x, kind):  # type: ignore[no-untyped-def]
    """In place; a gated activation leaves its result in the first half."""
    if kind == RELU2:
        for j in range(x.shape[0]):
            positive = max(x[j], f32(0))
            x[j] = positive * positive
    elif kind == GELU:
        for j in range(x.shape[0]):
            x[j] = f32(0.5) * x[j] * (f32(1) + f32(math.erf(x[j] * f32(0.70710678))))
    elif kind == GELU_TANH:
        for j in range(x.shape[0]):
            u = f32(0.79788456) * (x[j] + f32(0.044715) * x[j] * x[j] * x[j])
            small = _exp(f32(-2) * abs(u))
            tanh = (f32(1) - small) / (f32(1) + small)
            x[j] = f32(0.5) * x[j] * (f32(1) + (tanh if u > 0 else -tanh))
    else:
        half = x.shape[0] // 2
        for j in range(half):
            small = _exp(-abs(x[j]))
            sigmoid = (f32(1) if x[j] > 0 else small) / (f32(1) + small)
            x[j] = x[j] * sigmoid * x[j + half]


@_compiled
def _add(x, more):  # type: ignore[no-untyped-def]
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[r, j] += more[r, j]


@_compiled
def hidden(x, positions, slots, weights, shape, keys, values):  # type: ignore[no-untyped-def]
    """Turn embedded tokens x (rows, C) float32 into final normed states, in place.

    positions (rows,) int64; slots (rows, longest) int64: where in the pool each row's positions are, up to and with
    its own, which is filled in; keys, values (layers, slots of the pool, KV heads, D) float32.
    """
    rows, width = x.shape
    kv_heads, head_dim = keys.shape[2], keys.shape[3]
    heads = weights.out.weight.shape[2] // head_dim
    normed = np.empty((rows, width), f32)
    added = np.empty((rows, width), f32)
    projected = np.empty((rows, (heads + 2 * kv_heads) * head_dim), f32)
    attended = np.empty((rows, heads * head_dim), f32)
    raised = np.empty((rows, weights.up.weight.shape[1]), f32)
    inner = np.empty((rows, weights.down.weight.shape[2]), f32)
    scores = np.empty(slots.shape[1], f32)
    if shape.embedding_norm:
        _norm(x, x, weights.norms, 0, shape)
    for layer in range(keys.shape[0]):
        _norm(x, normed, weights.norms, 2 * layer, shape)
        project(weights.qkv, layer, normed, projected)
        for r in range(rows):
            position = positions[r]
            qkv = projected[r].reshape(heads + 2 * kv_heads, head_dim)
            if shape.qk_norm:
                for h in range(heads + kv_heads):
                    _rms_norm(qkv[h], qkv[h], f32(shape.eps))
            if weights.cos.shape[0]:
                _rotate(qkv[: heads + kv_heads], weights.cos[position], weights.sin[position])
            keys[layer, slots[r, position]] = qkv[heads : heads + kv_heads]
            values[layer, slots[r, position]] = qkv[heads + kv_heads :]
        for r in range(rows):
            query = projected[r].reshape(heads + 2 * kv_heads, head_dim)
            out = attended[r].reshape(heads, head_dim)
            _attend(query, keys[layer], values[layer], slots[r], positions[r] + 1, out, scores)
        project(weights.out, layer, attended, added)
        _add(x, added)
        _norm(x, normed, weights.norms, 2 * layer + 1, shape)
        project(weights.up, layer, normed, raised)
        for r in range(rows):
            _activate(raised[r], shape.activation)
            inner[r] = raised[r, : inner.shape[1]]
        project(weights.down, layer, inner, added)
        _add(x, added)
    _norm(x, x, weights.norms, 2 * keys.shape[0], shape)
