"""QK-norm, rotation and the write to the paged cache as one kernel, a program a head; twin: `plain.heads`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_service.engine.kernels.parts import Rows
from inference_service.engine.kv_pool import KVPool
from inference_service.model.config import GPTConfig


@triton.jit
def _write(pool, scales, at, real, x, D, D_REAL: tl.constexpr, QUANTIZED: tl.constexpr, wanted):  # type: ignore[no-untyped-def]
    """Store a head in row `at` of the pool, if it is wanted there."""
    if QUANTIZED:
        # the scale is rounded first, so that its rounding costs nothing
        scale = tl.maximum(tl.max(tl.abs(x), axis=0) / 127.0, 6.103515625e-05).to(tl.float16)
        tl.store(scales + at, scale, mask=wanted)
        whole = tl.floor(x / scale.to(tl.float32) + 0.5)
        x = tl.minimum(tl.maximum(whole, -127.0), 127.0)
    tl.store(pool + at * D_REAL + D, x.to(pool.dtype.element_ty), mask=real & wanted)


@triton.jit
def _heads(  # type: ignore[no-untyped-def]
    qkv, positions, slots, cos, sin, q, keys, values, key_scales, value_scales, pool_slots,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
    QK_NORM: tl.constexpr, EPS: tl.constexpr, ROTARY: tl.constexpr, QUANTIZED: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    real = d < D
    begin = qkv + (row * (HEADS + 2 * KV_HEADS) + head) * D
    x = tl.load(begin + d, mask=real, other=0.0)
    turned = x
    factor = 1.0
    if QK_NORM:
        factor = 1.0 / tl.sqrt(tl.maximum(tl.sum(x * x, axis=0) / D + EPS, 1e-15))
        turned = x * factor
    if ROTARY:
        position = tl.load(positions + row)
        other = tl.load(begin + (d + D // 2) % D, mask=real, other=0.0) * factor
        turned = turned * tl.load(cos + position * D + d, mask=real, other=0.0)
        turned += other * tl.load(sin + position * D + d, mask=real, other=0.0)
    slot = tl.load(slots + row).to(tl.int64)
    key_at, value_at = slot + (head - HEADS) * pool_slots, slot + (head - HEADS - KV_HEADS) * pool_slots
    tl.store(q + (row * HEADS + head) * D + d, turned, mask=real & (head < HEADS))
    is_key = (head >= HEADS) & (head < HEADS + KV_HEADS)
    _write(keys, key_scales, key_at, real, turned, d, D, QUANTIZED, is_key)
    _write(values, value_scales, value_at, real, x, d, D, QUANTIZED, head >= HEADS + KV_HEADS)


def heads(
    qkv: Tensor, rows: Rows, pool: KVPool, layer: int, config: GPTConfig, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Norm and turn queries and keys, write keys and values to the pool; qkv (N, (H + 2K) * D) -> q (N, H, D)."""
    c = config
    q = torch.empty(len(qkv), c.n_head, c.head_dim, device=qkv.device)
    cos, sin = rotary or (None, None)
    _heads[len(qkv), c.n_head + 2 * c.n_kv_head](
        qkv, rows.positions, rows.slots, cos, sin, q, pool.keys[layer], pool.values[layer],
        pool.key_scales[layer], pool.value_scales[layer], pool.keys.shape[2],
        HEADS=c.n_head, KV_HEADS=c.n_kv_head, D=c.head_dim, BLOCK_D=triton.next_power_of_2(c.head_dim),
        QK_NORM=c.qk_norm, EPS=c.norm_eps, ROTARY=rotary is not None, QUANTIZED=pool.quantized, num_warps=1,
    )  # fmt: skip
    return q
