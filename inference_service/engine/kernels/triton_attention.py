"""Paged decode attention, split over the keys (Dao et al. 2023, "Flash-Decoding"); twin: `plain.attend`.

A program reads the keys and values of one key/value head once for all query heads of its group, in place and, where
the cache is int8, as int8. The parts of a row that several programs have computed are put together by a second kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_service.engine.kernels.parts import Rows
from inference_service.engine.kernels.triton_linear import dot_type, processors
from inference_service.engine.kv_pool import KVPool

KEYS = 64  # of one tile
_MOST_PARTS = 32


@triton.jit
def _attend(  # type: ignore[no-untyped-def]
    q, keys, values, key_scales, value_scales, tables, positions, highest_out, total_out, out, table_width,
    pool_slots, softmax_scale,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr, PARTS: tl.constexpr,
    QUANTIZED: tl.constexpr, TYPE: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    row, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(positions + row) + 1
    share = tl.cdiv(tl.cdiv(length, BLOCK_S), PARTS) * BLOCK_S
    first = part * share
    last = tl.minimum(first + share, length)
    g, d = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_D)
    head = (row * KV_HEADS + kv_head) * GROUP + g
    real = (g < GROUP)[:, None] & (d < D)[None, :]
    query = tl.load(q + head[:, None] * D + d[None, :], mask=real, other=0.0) * softmax_scale
    highest = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    sums = tl.zeros((BLOCK_G, BLOCK_D), tl.float32)
    for start in range(first, last, BLOCK_S):
        at = start + tl.arange(0, BLOCK_S)
        seen = at < last
        block = tl.load(tables + row * table_width + at // PAGE, mask=seen, other=0)
        entry = block.to(tl.int64) * PAGE + at % PAGE + kv_head * pool_slots
        inside = seen[:, None] & (d < D)[None, :]
        k = tl.load(keys + entry[:, None] * D + d[None, :], mask=inside, other=0)
        if BLOCK_G == 1:
            scores = tl.sum(query * k.to(tl.float32), axis=1)[None, :]
        else:
            scores = tl.dot(query.to(TYPE), tl.trans(k.to(TYPE)), input_precision="ieee")
        if QUANTIZED:
            scores *= tl.load(key_scales + entry, mask=seen, other=0.0).to(tl.float32)[None, :]
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        fading = tl.exp(highest - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * fading + tl.sum(weights, axis=1)
        if QUANTIZED:
            weights *= tl.load(value_scales + entry, mask=seen, other=0.0).to(tl.float32)[None, :]
        v = tl.load(values + entry[:, None] * D + d[None, :], mask=inside, other=0)
        if BLOCK_G == 1:
            more = tl.sum(tl.trans(weights) * v.to(tl.float32), axis=0)[None, :]
        else:
            more = tl.dot(weights.to(TYPE), v.to(TYPE), input_precision="ieee")
        sums = sums * fading[:, None] + more
        highest = higher
    if PARTS == 1:
        sums /= total[:, None]
    else:
        tl.store(highest_out + head * PARTS + part, highest, mask=g < GROUP)
        tl.store(total_out + head * PARTS + part, total, mask=g < GROUP)
    tl.store(out + (head[:, None] * PARTS + part) * D + d[None, :], sums, mask=real)


@triton.jit
def _combine(highest, totals, sums, out, D: tl.constexpr, PARTS: tl.constexpr, BLOCK_D: tl.constexpr):  # type: ignore[no-untyped-def]
    """The parts of one head of one row; a part without keys has the weight 0."""
    head = tl.program_id(0)
    part, d = tl.arange(0, PARTS), tl.arange(0, BLOCK_D)
    high = tl.load(highest + head * PARTS + part)
    weight = tl.exp(high - tl.max(high, axis=0))
    total = tl.sum(tl.load(totals + head * PARTS + part) * weight, axis=0)
    at = (head * PARTS + part)[:, None] * D + d[None, :]
    mask = (part < PARTS)[:, None] & (d < D)[None, :]
    y = tl.sum(tl.load(sums + at, mask=mask, other=0.0) * weight[:, None], axis=0)
    tl.store(out + head * D + d, y / total, mask=d < D)


def parts(rows: int, kv_heads: int, longest: int, processors: int) -> int:
    """Into how many pieces the keys of a row are split: a power of two that gives each processor two programs."""
    most = min(_MOST_PARTS, triton.cdiv(longest, KEYS))
    wanted, n = 2 * processors // (rows * kv_heads), 1
    while 2 * n <= min(wanted, most):
        n *= 2
    return n


def attend(q: Tensor, rows: Rows, pool: KVPool, layer: int, split: int = 0) -> Tensor:
    """q (N, H, D) over the positions that each row sees -> (N, H * D). `split` 0: as many parts as suit the GPU."""
    n, heads, width = q.shape
    _, kv_heads, slots, _ = pool.keys.shape
    group = heads // kv_heads
    split = split or parts(n, kv_heads, rows.tables.shape[1] * pool.block_size, processors(q.device))
    out = torch.empty(n, heads, split, width, device=q.device)
    highest, totals = torch.empty(2, n, heads, split, device=q.device)
    block_d = triton.next_power_of_2(width)
    _attend[n, kv_heads, split](
        q, pool.keys[layer], pool.values[layer], pool.key_scales[layer], pool.value_scales[layer],
        rows.tables, rows.positions, highest, totals, out, rows.tables.stride(0), slots, width**-0.5,
        KV_HEADS=kv_heads, GROUP=group, D=width, PAGE=pool.block_size, PARTS=split, QUANTIZED=pool.quantized,
        TYPE=dot_type(q.device), BLOCK_G=1 if group == 1 else max(16, triton.next_power_of_2(group)),
        BLOCK_D=max(16, block_d), BLOCK_S=KEYS,
    )  # fmt: skip
    if split == 1:
        return out.view(n, heads * width)
    combined = torch.empty(n, heads * width, device=q.device)
    _combine[n * heads,](highest, totals, out, combined, D=width, PARTS=split, BLOCK_D=block_d)
    return combined
