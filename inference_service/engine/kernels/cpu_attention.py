"""Attention over the paged cache, compiled by numba: query by query, or for many queries of one sequence together."""

from __future__ import annotations

import math

import numpy as np

from inference_service.engine.kernels.cpu_layers import exp, f32, rms_norm
from inference_service.engine.kernels.jit import compiled
from inference_service.engine.kernels.simd import LANES, LONGEST_TILE, strided

TOGETHER = 3 if LONGEST_TILE == 16 else 6  # from so many queries on it pays


@compiled
def _keep(x):  # type: ignore[no-untyped-def]
    """A float32 rounded to the nearest bfloat16, ties to even."""
    bits = f32(x).view(np.uint32)
    return np.int16(np.int32((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)))


@compiled
def _kept(bits):  # type: ignore[no-untyped-def]
    """The float32 of a bfloat16."""
    return np.int32(np.int32(bits) << np.int32(16)).view(np.float32)


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
    kv_heads = keys.shape[0]
    heads = row.shape[0] - 2 * kv_heads
    if shape.qk_norm:
        for h in range(heads + kv_heads):
            rms_norm(row[h], row[h], f32(shape.eps))
    if weights.cos.shape[0]:
        _rotate(row[: heads + kv_heads], weights.cos[position], weights.sin[position])
    for h in range(kv_heads):
        for d in range(row.shape[1]):
            keys[h, slot, d] = _keep(row[heads + h, d])
            values[h, slot, d] = _keep(row[heads + kv_heads + h, d])


@compiled
def attend(query, keys, values, head, slots, length, out, scores):  # type: ignore[no-untyped-def]
    """One row's query (D,) of a head that reads KV head `head` -> out (D,); positions 0..length-1 are at `slots`.

    scores is room for as many numbers. Four positions at a time: their sums do not wait for each other.
    """
    width = query.shape[0]
    scale = f32(1 / math.sqrt(f32(width)))
    highest = f32(-1e30)
    whole = length - length % 4
    for t in range(0, whole, 4):
        a, b, c, d = keys[head, slots[t]], keys[head, slots[t + 1]], keys[head, slots[t + 2]], keys[head, slots[t + 3]]
        w, x, y, z = f32(0), f32(0), f32(0), f32(0)
        for j in range(width):
            w += query[j] * _kept(a[j])
            x += query[j] * _kept(b[j])
            y += query[j] * _kept(c[j])
            z += query[j] * _kept(d[j])
        scores[t], scores[t + 1], scores[t + 2], scores[t + 3] = w * scale, x * scale, y * scale, z * scale
        highest = max(highest, max(max(w, x), max(y, z)) * scale)
    for t in range(whole, length):
        w, a = f32(0), keys[head, slots[t]]
        for j in range(width):
            w += query[j] * _kept(a[j])
        scores[t] = w * scale
        highest = max(highest, scores[t])
    for t in range(length):
        scores[t] = exp(scores[t] - highest)
    total = f32(0)
    for t in range(length):
        total += scores[t]
    inverse = f32(1) / total
    for j in range(width):
        out[j] = f32(0)
    for t in range(0, whole, 4):
        a, b = values[head, slots[t]], values[head, slots[t + 1]]
        c, d = values[head, slots[t + 2]], values[head, slots[t + 3]]
        w, x, y, z = scores[t], scores[t + 1], scores[t + 2], scores[t + 3]
        for j in range(width):
            out[j] += (w * _kept(a[j]) + x * _kept(b[j])) + (y * _kept(c[j]) + z * _kept(d[j]))
    for t in range(whole, length):
        a, w = values[head, slots[t]], scores[t]
        for j in range(width):
            out[j] += w * _kept(a[j])
    for j in range(width):
        out[j] *= inverse


@compiled
def _softmax(shares):  # type: ignore[no-untyped-def]
    """e to the power of shares (positions, LANES) less each column's highest, in place; their sums (LANES,).

    Four lines at a time: each sum waits for the one before.
    """
    highest, total = np.full(LANES, f32(-1e30)), np.zeros(LANES, f32)
    for t in range(0, shares.shape[0], 4):
        a, b, c, d = shares[t], shares[t + 1], shares[t + 2], shares[t + 3]
        for r in range(LANES):
            highest[r] = max(highest[r], max(max(a[r], b[r]), max(c[r], d[r])))
    for t in range(0, shares.shape[0], 4):
        a, b, c, d = shares[t], shares[t + 1], shares[t + 2], shares[t + 3]
        for r in range(LANES):
            a[r], b[r] = exp(a[r] - highest[r]), exp(b[r] - highest[r])
            c[r], d[r] = exp(c[r] - highest[r]), exp(d[r] - highest[r])
            total[r] += (a[r] + b[r]) + (c[r] + d[r])
    return total


@compiled
def _read(kept, slots, begin, count, head, room):  # type: ignore[no-untyped-def]
    """Of one head, what is kept (KV heads, slots, D) at `count` positions from `begin` on, to room (positions, D)."""
    for i in range(count):
        source, target = kept[head, slots[begin + i]], room[i]
        for d in range(target.shape[0]):
            target[d] = _kept(source[d])


@compiled
def attend_together(projected, row, first, lanes, head, width, keys, values, slots, start, attended):  # type: ignore[no-untyped-def]
    """Up to LANES queries of one sequence that read KV head `head`: of its rows, each with all the heads that share it,
    those from lane `first` on. Its first row is `row` of all rows, at position `start`.

    projected (all rows, ...) holds the queries, attended (all rows, heads * D) gets the result; keys, values (KV
    heads, slots, D), positions are at `slots`. Everything in between has the lanes as its last dimension: a number of
    a key or value that was loaded is used for all of them.
    """
    shared = attended.shape[1] // width // keys.shape[0]
    seen = start + (first + lanes - 1) // shared + 1
    scale = f32(1 / math.sqrt(f32(width)))
    query = np.zeros((width, LANES), f32)
    for lane in range(lanes):
        at = (head * shared + (first + lane) % shared) * width
        line = projected[row + (first + lane) // shared]
        for d in range(width):
            query[d, lane] = line[at + d] * scale
    flat_query = query.reshape(-1)
    shares = np.empty((-(-seen // LONGEST_TILE) * LONGEST_TILE, LANES), f32)
    flat_room = np.zeros((LONGEST_TILE + 1) * max(width, LONGEST_TILE), f32)  # a tile may look beyond the last one
    room = flat_room[: LONGEST_TILE * width].reshape(LONGEST_TILE, width)
    for t in range(0, seen, LONGEST_TILE):
        _read(keys, slots, t, min(LONGEST_TILE, seen - t), head, room)
        strided(flat_room, 0, width, 1, flat_query, 0, width, shares[t:], False)  # type: ignore[call-arg]
    for t in range(start + first // shared + 1, shares.shape[0]):
        for lane in range(min((t - start) * shared - first, LANES)):
            shares[t, lane] = f32(-1e30)  # the future, and what is no position
    total = _softmax(shares)
    flat_shares = shares.reshape(-1)
    sums = np.zeros((-(-width // LONGEST_TILE) * LONGEST_TILE, LANES), f32)
    for t in range(0, seen, LONGEST_TILE):
        count = min(LONGEST_TILE, seen - t)
        _read(values, slots, t, count, head, room)
        for d in range(0, width, LONGEST_TILE):
            strided(flat_room, d, 1, width, flat_shares, t * LANES, count, sums[d:], True)  # type: ignore[call-arg]
    for lane in range(lanes):
        inverse = f32(1) / total[lane]
        at = (head * shared + (first + lane) % shared) * width
        out = attended[row + (first + lane) // shared]
        for d in range(width):
            out[at + d] = sums[d, lane] * inverse
