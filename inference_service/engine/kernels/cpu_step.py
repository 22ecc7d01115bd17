"""The whole forward pass of a step as one compiled function for CPUs, which several threads run together.

With one row a step of a small model is bound by the call overhead of its hundred operators, not by arithmetic. Here
the weights stay int8 in memory and are widened in registers; rows are multiplied in bfloat16 where the processor can,
else in float32 (sums are float32; int8 weights are exact in both). Attention reads the paged
cache in place, and the interpreter is left once a step, without its lock. The plain twin is `GPT.hidden` over a
`PagedBatch`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inference_service.engine.kernels import cpu_attention as attention
from inference_service.engine.kernels import cpu_layers as layers
from inference_service.engine.kernels.cpu_layers import f32, groups
from inference_service.engine.kernels.jit import compiled
from inference_service.engine.kernels.simd import HAS_BFLOAT16, LANES, TILE_ROWS
from inference_service.engine.kernels.team import done, take, wait

_PIECE_BYTES = 65536  # of weights: some microseconds of work
_PHASES_A_LAYER = 10
_QKV, _OUT, _UP, _DOWN, _HEAD = range(5)


class Matrix(NamedTuple):
    """One projection of every layer: flat int8, each as `simd.packed`; scales and bias (layers, n) float32.

    An array that a model does not have is empty.
    """

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class Norms(NamedTuple):
    """Gains and biases (norms, C) float32: two a layer, then the final one."""

    gain: np.ndarray
    bias: np.ndarray


class Weights(NamedTuple):
    """All of a model; rotary tables (context, D / 2) and the table of positions (context, C) float32.

    `embedding`, `bigrams` and `head` have one layer.
    """

    embedding: Matrix
    bigrams: Matrix
    positions: np.ndarray
    qkv: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    norms: Norms
    head: Matrix
    cos: np.ndarray
    sin: np.ndarray


class Shape(NamedTuple):
    """Which variant of the decoder it is; see GPTConfig."""

    layer_norm: bool
    eps: float
    embedding_norm: bool
    qk_norm: bool
    activation: int
    bigram_rows: int
    d_ff: int
    n_layer: int
    logit_softcap: float


class Batch(NamedTuple):
    """What to compute.

    tokens, previous, positions, owner (rows,) int64, the last being the segment, which is the part of one sequence;
    slots (segments, longest) int64: where in the pool the positions of the sequence are;
    segments (segments, 2) int64: first row and its position;
    blocks (blocks, 3) int64: segment, and which of its queries of a KV head attend together: the first one and how
    many, counted row by row over the heads that share it;
    wanted (R,) int64: rows whose logits are needed.
    """

    tokens: np.ndarray
    previous: np.ndarray
    positions: np.ndarray
    owner: np.ndarray
    slots: np.ndarray
    segments: np.ndarray
    blocks: np.ndarray
    wanted: np.ndarray


class Scratch(NamedTuple):
    """Room for what the phases hand to each other, float32 but for `packed`, and the logits (R, V)."""

    x: np.ndarray
    projected: np.ndarray
    attended: np.ndarray
    raised: np.ndarray
    packed: np.ndarray
    logits: np.ndarray


def phases(n_layer: int) -> int:
    """How many phases a step has."""
    return _PHASES_A_LAYER * n_layer + 3


@compiled
def _add_row(matrix, index, out):  # type: ignore[no-untyped-def]
    """Add one row of an embedding table."""
    k = out.shape[0]
    at = (index // LANES) * k * LANES + index % LANES
    weight, scale = matrix.weight, matrix.scale[0, index]
    for j in range(k):
        out[j] += f32(weight[at + j * LANES]) * scale


@compiled
def _embed(x, row, batch, weights, shape):  # type: ignore[no-untyped-def]
    out, token = x[row], batch.tokens[row]
    for j in range(out.shape[0]):
        out[j] = f32(0)
    _add_row(weights.embedding, token, out)
    if shape.bigram_rows:
        hashed = token * 1_000_003 ^ batch.previous[row] * 8_191  # as gpt.bigram_rows
        _add_row(weights.bigrams, hashed % shape.bigram_rows, out)
    if weights.positions.shape[0]:
        more = weights.positions[batch.positions[row]]
        for j in range(out.shape[0]):
            out[j] += more[j]
    if shape.embedding_norm:
        layers.norm(out, out, weights.norms, 0, shape)


@compiled
def _project(state, phase, matrix, layer, k, scratch, rows, out, adding, cap):  # type: ignore[no-untyped-def]
    """out = the packed rows @ the layer's matrix + its bias, or added to out; softly capped, if `cap` is not 0."""
    n, none = matrix.scale.shape[1], np.empty(0, f32)
    width = k // 2 if HAS_BFLOAT16 else k
    panels = -(-n // LANES)
    start = layer * panels * LANES * k
    a_piece = max(1, min(_PIECE_BYTES // (LANES * k), panels // 8))
    if rows > TILE_ROWS:
        a_piece += a_piece % 2  # panels go through a product in pairs
    pieces = -(-panels // a_piece)
    scale, bias = matrix.scale[layer], matrix.bias[layer] if matrix.bias.shape[0] else none
    piece = take(state, phase)
    while piece < pieces:
        some = piece * a_piece, min((piece + 1) * a_piece, panels)
        layers.multiply(matrix.weight, start, k, some, scratch.packed, width, rows, scale, bias, out, adding)
        if cap:
            for row in range(rows):
                layers.soften(out[row, some[0] * LANES : min(some[1] * LANES, n)], cap)
        done(state, phase)
        piece = take(state, phase)
    wait(state, phase, pieces)


@compiled
def _prepare(state, phase, part, source, rows, k, number, batch, weights, shape, scratch):  # type: ignore[no-untyped-def]
    """Pack the k inputs of product `part` of all rows: normed, activated or as they are."""
    pieces = groups(rows)
    piece = take(state, phase)
    while piece < pieces:
        row, count, size = layers.group(rows, piece)
        ready = np.empty((count, k), f32)
        for r in range(count):
            line = source[batch.wanted[row + r] if part == _HEAD else row + r]
            if part == _OUT:
                for j in range(k):
                    ready[r, j] = line[j]
            elif part == _DOWN:
                layers.activate(line, ready[r], shape.activation)
            else:
                layers.norm(line, ready[r], weights.norms, number, shape)
        layers.pack(ready, row, size, scratch.packed)
        done(state, phase)
        piece = take(state, phase)
    wait(state, phase, pieces)


@compiled
def _store(state, phase, layer, batch, weights, shape, scratch, keys, values):  # type: ignore[no-untyped-def]
    rows = batch.positions.shape[0]
    pieces = groups(rows)
    piece = take(state, phase)
    while piece < pieces:
        row, count, _ = layers.group(rows, piece)
        for r in range(row, row + count):
            line, position = scratch.projected[r].reshape(-1, keys.shape[3]), batch.positions[r]
            slot = batch.slots[batch.owner[r], position]
            attention.store(line, position, slot, weights, shape, keys[layer], values[layer])
        done(state, phase)
        piece = take(state, phase)
    wait(state, phase, pieces)


@compiled
def _attend(state, phase, layer, batch, scratch, keys, values):  # type: ignore[no-untyped-def]
    kv_heads, width = keys.shape[1], keys.shape[3]
    heads = scratch.attended.shape[1] // width
    shared = heads // kv_heads
    scores = np.empty(batch.slots.shape[1], f32)
    pieces = batch.blocks.shape[0] * kv_heads
    piece = take(state, phase)
    while piece < pieces:
        number, first, size = batch.blocks[piece // kv_heads]
        row, start = batch.segments[number]
        kv_head, slots = piece % kv_heads, batch.slots[number]
        if size > 1:
            attention.attend_together(
                scratch.projected, row, first, size, kv_head, width, keys[layer], values[layer], slots, start,
                scratch.attended,
            )  # fmt: skip
        else:
            row, seen, head = row + first // shared, start + first // shared + 1, kv_head * shared + first % shared
            query = scratch.projected[row].reshape(-1, width)[head]
            out = scratch.attended[row].reshape(heads, width)[head]
            attention.attend(query, keys[layer], values[layer], kv_head, slots, seen, out, scores)
        done(state, phase)
        piece = take(state, phase)
    wait(state, phase, pieces)


@compiled
def _embed_all(state, phase, batch, weights, shape, x):  # type: ignore[no-untyped-def]
    pieces = groups(x.shape[0])
    piece = take(state, phase)
    while piece < pieces:
        row, count, _ = layers.group(x.shape[0], piece)
        for r in range(row, row + count):
            _embed(x, r, batch, weights, shape)
        done(state, phase)
        piece = take(state, phase)
    wait(state, phase, pieces)


@compiled
def step(state, batch, weights, shape, keys, values, scratch):  # type: ignore[no-untyped-def]
    """Logits of the batch's wanted rows into scratch.logits.

    state: `team.counters` of `phases`; keys, values (layers, KV heads, slots of the pool, D) int16, bits of bfloat16,
    in which the new tokens' are stored.
    """
    matrices = weights.qkv, weights.out, weights.up, weights.down, weights.head
    sources = scratch.x, scratch.attended, scratch.x, scratch.raised, scratch.x
    targets = scratch.projected, scratch.x, scratch.raised, scratch.x, scratch.logits
    _embed_all(state, 0, batch, weights, shape, scratch.x)
    phase = 1
    for number in range(4 * shape.n_layer + (batch.wanted.shape[0] > 0)):
        layer, part = number // 4, number % 4
        if layer == shape.n_layer:
            layer, part = 0, _HEAD
        rows = batch.wanted.shape[0] if part == _HEAD else batch.tokens.shape[0]
        k = shape.d_ff if part == _DOWN else sources[part].shape[1]
        # one place that calls each of them: where it is called, a function is compiled again
        _prepare(state, phase, part, sources[part], rows, k, number // 2, batch, weights, shape, scratch)
        adding, cap = part in (_OUT, _DOWN), f32(shape.logit_softcap if part == _HEAD else 0)
        _project(state, phase + 1, matrices[part], layer, k, scratch, rows, targets[part], adding, cap)
        phase += 2
        if part == _QKV:
            _store(state, phase, layer, batch, weights, shape, scratch, keys, values)
            _attend(state, phase + 1, layer, batch, scratch, keys, values)
            phase += 2
