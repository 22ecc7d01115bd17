"""Attention over the paged cache, compiled by numba: row by row, or for many rows of one sequence in blocks."""

from __future__ import annotations

import math

import numpy as np

from inference_service.engine.kernels.cpu_layers import exp, f32, rms_norm
from inference_service.engine.kernels.jit import compiled
from inference_service.engine.kernels.simd import LANES, LONGEST_TILE, tile4, tile16

_tile = tile16 if LONGEST_TILE == 16 else tile4
BLOCK_ROWS = LANES
BLOCKED_ROWS = 8  # from so many rows of a sequence on, gathering its keys and values first pays


@compiled
def _rotate(qk, cos, sin):  # type: ignore[no-untyped-def]
    half = cos.shape[0]
    for h in range(qk.shape[0]):
        row = qk[h]
        for d in range(half):
            left, right = row[d], row[d + half]
            row[d] = left * cos[d] - right * sin[d]
            row[d + half] = left * sin[d] + right * cos[d]


@compiled
def store(row, position, slot, weights, shape, keys, values):  # type: ignore[no-untyped-def]
    """Norm and turn the queries and keys of one token's row (heads + 2 KV heads, D); keys and values to their slot."""
    kv_heads = keys.shape[1]
    heads = row.shape[0] - 2 * kv_heads
    if shape.qk_norm:
        for h in range(heads + kv_heads):
            rms_norm(row[h], row[h], f32(shape.eps))
    if weights.cos.shape[0]:
        _rotate(row[: heads + kv_heads], weights.cos[position], weights.sin[position])
    for h in range(kv_heads):
        for d in range(row.shape[1]):
            keys[slot, h, d] = row[heads + h, d]
            values[slot, h, d] = row[heads + kv_heads + h, d]


@compiled
def attend(query, keys, values, head, slots, length, out, scores):  # type: ignore[no-untyped-def]
    """One row's query (D,) of a head that reads KV head `head` -> out (D,); positions 0..length-1 are at `slots`.

    scores is room for as many numbers.
    """
    width = query.shape[0]
    scale = f32(1 / math.sqrt(f32(width)))
    highest = f32(-1e30)
    for t in range(length):
        dot, key = f32(0), keys[slots[t], head]
        for d in range(width):
            dot += query[d] * key[d]
        scores[t] = dot * scale
        if scores[t] > highest:
            highest = scores[t]
    for t in range(length):
        scores[t] = exp(scores[t] - highest)
    total = f32(0)
    for t in range(length):
        total += scores[t]
    inverse = f32(1) / total
    for d in range(width):
        out[d] = f32(0)
    for t in range(length):
        share, value = scores[t] * inverse, values[slots[t], head]
        for d in range(width):
            out[d] += share * value[d]


@compiled
def gather(keys, values, head, slots, length, gathered, at):  # type: ignore[no-untyped-def]
    """Keys (D, LONGEST_TILE) for each LONGEST_TILE positions, then values (length, LONGEST_TILE) for each LONGEST_TILE
    of D, into gathered from `at` on; see `gathered_size`."""
    width = keys.shape[2]
    for t in range(-(-length // LONGEST_TILE) * LONGEST_TILE):
        target = at + (t // LONGEST_TILE) * width * LONGEST_TILE + t % LONGEST_TILE
        if t < length:
            key = keys[slots[t], head]
            for d in range(width):
                gathered[target + d * LONGEST_TILE] = key[d]
        else:
            for d in range(width):
                gathered[target + d * LONGEST_TILE] = f32(0)
    at += -(-length // LONGEST_TILE) * LONGEST_TILE * width
    for t in range(length):
        value = values[slots[t], head]
        for d in range(width):
            gathered[at + ((d // LONGEST_TILE) * length + t) * LONGEST_TILE + d % LONGEST_TILE] = value[d]


@compiled
def _softmax(shares):  # type: ignore[no-untyped-def]
    """e to the power of shares (positions, BLOCK_ROWS) less each column's highest, in place; their sums (BLOCK_ROWS,).

    Four lines at a time: each sum waits for the one before.
    """
    highest, total = np.full(BLOCK_ROWS, f32(-1e30)), np.zeros(BLOCK_ROWS, f32)
    for t in range(0, shares.shape[0], 4):
        a, b, c, d = shares[t], shares[t + 1], shares[t + 2], shares[t + 3]
        for r in range(BLOCK_ROWS):
            highest[r] = max(highest[r], max(max(a[r], b[r]), max(c[r], d[r])))
    for t in range(0, shares.shape[0], 4):
        a, b, c, d = shares[t], shares[t + 1], shares[t + 2], shares[t + 3]
        for r in range(BLOCK_ROWS):
            a[r], b[r] = exp(a[r] - highest[r]), exp(b[r] - highest[r])
            c[r], d[r] = exp(c[r] - highest[r]), exp(d[r] - highest[r])
            total[r] += (a[r] + b[r]) + (c[r] + d[r])
    return total


@compiled
def gathered_size(length, width):  # type: ignore[no-untyped-def]
    keys = -(-length // LONGEST_TILE) * LONGEST_TILE * width
    return keys + -(-width // LONGEST_TILE) * LONGEST_TILE * length


@compiled
def attend_block(projected, row, rows, head, width, gathered, at, start, length, attended):  # type: ignore[no-untyped-def]
    """Up to BLOCK_ROWS rows of one sequence, the first at position `start`; one head; `length` positions are gathered.

    projected (all rows, ...) holds the queries, attended (all rows, heads * D) gets the result. Everything in between
    has the rows as its last dimension.
    """
    seen = start + rows
    scale = f32(1 / math.sqrt(f32(width)))
    query = np.zeros((width, BLOCK_ROWS), f32)
    for r in range(rows):
        for d in range(width):
            query[d, r] = projected[row + r, head * width + d] * scale
    flat_query = query.reshape(-1)
    shares = np.empty((-(-seen // LONGEST_TILE) * LONGEST_TILE, BLOCK_ROWS), f32)
    for t in range(0, seen, LONGEST_TILE):
        _tile(flat_query, 0, BLOCK_ROWS, gathered, at + t * width, width, shares[t:])
    padded = shares.shape[0]
    for t in range(start + 1, padded):
        for r in range(min(t - start, BLOCK_ROWS)):
            shares[t, r] = f32(-1e30)  # the future, and what is no position
    total = _softmax(shares)
    flat_shares, sums = shares.reshape(-1), np.empty((LONGEST_TILE, BLOCK_ROWS), f32)
    at += -(-length // LONGEST_TILE) * LONGEST_TILE * width
    for d in range(0, width, LONGEST_TILE):
        _tile(flat_shares, 0, BLOCK_ROWS, gathered, at + d * length, seen, sums)
        for r in range(rows):
            inverse = f32(1) / total[r]
            for j in range(min(LONGEST_TILE, width - d)):
                attended[row + r, head * width + d + j] = sums[j, r] * inverse
