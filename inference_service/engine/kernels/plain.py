"""The kernels of a step of rows in plain PyTorch: the twin of the Triton ones, and what runs where there is no Triton.

N rows, C model width, H heads, K key/value heads, D head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inference_service.engine.kernels.parts import Norm, Projection, Rows
from inference_service.engine.kv_pool import KVPool
from inference_service.model.config import GPTConfig
from inference_service.model.gpt import ACTIVATIONS
from inference_service.model.norm import rms_norm
from inference_service.model.quantize import dequantize_rows


def linear(
    x: Tensor, projection: Projection, norm: Norm | None = None, activation: str = "", residual: Tensor | None = None
) -> Tensor:
    """activation(norm(x) @ W.T + bias), x (N, in) float32 -> (N, out) float32; added to `residual` in place."""
    weight = dequantize_rows(projection.weight, projection.scale)
    y = F.linear(normed(x, norm), weight, projection.bias)
    if activation:
        y = ACTIVATIONS[activation](y)
    return y if residual is None else residual.add_(y)


def heads(
    qkv: Tensor, rows: Rows, pool: KVPool, layer: int, config: GPTConfig, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Norm and turn queries and keys, write keys and values to the pool; qkv (N, (H + 2K) * D) -> q (N, H, D)."""
    c = config
    split = qkv.view(len(qkv), c.n_head + 2 * c.n_kv_head, c.head_dim)
    qk, v = split.split([c.n_head + c.n_kv_head, c.n_kv_head], dim=1)
    if c.qk_norm:
        qk = rms_norm(qk, c.norm_eps)
    if rotary is not None:
        cos, sin = (table[rows.positions][:, None] for table in rotary)
        left, right = qk.chunk(2, dim=-1)
        qk = qk * cos + torch.cat((right, left), dim=-1) * sin
    q, k = qk.split([c.n_head, c.n_kv_head], dim=1)
    pool.write(layer, rows.slots.long(), k, v)
    return q.contiguous()


def attend(q: Tensor, rows: Rows, pool: KVPool, layer: int) -> Tensor:
    """q (N, H, D) over the positions that each row sees -> (N, H * D)."""
    at = torch.arange(rows.tables.shape[1] * pool.block_size, device=q.device)
    slots = rows.tables.long()[:, at // pool.block_size] * pool.block_size + at % pool.block_size
    k, v = (part.transpose(1, 2) for part in pool.read(layer, slots, q.dtype))
    seen = at <= rows.positions[:, None]
    y = F.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=seen[:, None, None], enable_gqa=True)
    return y.reshape(len(q), -1)


def normed(x: Tensor, norm: Norm | None) -> Tensor:
    if norm is None:
        return x
    if norm.kind == "layer":
        return F.layer_norm(x, x.shape[-1:], norm.gain, norm.bias, norm.eps)
    x = rms_norm(x, norm.eps)
    return x if norm.gain is None else x * norm.gain
