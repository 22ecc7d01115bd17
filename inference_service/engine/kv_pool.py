"""The device's side of the paged KV cache: one pool of keys and values, addressed by token slots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inference_service.engine.block_manager import Copy
from inference_service.engine.scheduler import Work
from inference_service.model.config import GPTConfig

_SCALE = torch.float16  # 16 bits beside a head's 8 bits an entry: rounding them is part of the quantization


class KVPool:
    """Keys and values (layers, K, slots, D); slot `block * block_size + i` is the i-th token of a block. What attention
    reads for a head lies side by side: memory is read ahead.

    With dtype int8 each head of each token has a scale of its own (layers, K, slots) float16, so that a token is
    quantized once, when it is written, and never again. One block more than `num_blocks` exists: rows that only pad a
    step write to it.
    """

    def __init__(
        self, config: GPTConfig, num_blocks: int, block_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        slots = (num_blocks + 1) * block_size
        shape = (config.n_layer, config.n_kv_head, slots, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        scales = shape[:3] if dtype == torch.int8 else (config.n_layer, config.n_kv_head, 0)
        self.key_scales = torch.zeros(scales, device=device, dtype=_SCALE)
        self.value_scales = torch.zeros(scales, device=device, dtype=_SCALE)

    @property
    def quantized(self) -> bool:
        return self.keys.dtype == torch.int8

    @property
    def scratch_slot(self) -> int:
        """A slot that belongs to no sequence."""
        return self.num_blocks * self.block_size

    def copy(self, copies: Sequence[Copy]) -> None:
        """Do the copies in their order."""
        for source, target, tokens in copies:
            a, b = source * self.block_size, target * self.block_size
            for part in self._parts():
                part[:, :, b : b + tokens] = part[:, :, a : a + tokens]

    def slots(self, blocks: Sequence[int], length: int) -> np.ndarray:
        """Slots (length,) int64 of the first tokens of a sequence that lies in `blocks`."""
        used = np.asarray(blocks[: -(-length // self.block_size)], dtype=np.int64)
        return (used[:, None] * self.block_size + np.arange(self.block_size)).reshape(-1)[:length]

    def write(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k, v (N, K, D) of one layer in `slots` (N,)."""
        k, v = k.transpose(0, 1), v.transpose(0, 1)
        if not self.quantized:
            self.keys[layer][:, slots], self.values[layer][:, slots] = k.to(self.keys.dtype), v.to(self.values.dtype)
            return
        self.keys[layer][:, slots], self.key_scales[layer][:, slots] = quantize_heads(k)
        self.values[layer][:, slots], self.value_scales[layer][:, slots] = quantize_heads(v)

    def read(self, layer: int, slots: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values (*slots.shape, K, D) of one layer, as `dtype`."""
        k, v = self.keys[layer][:, slots].to(dtype), self.values[layer][:, slots].to(dtype)
        if self.quantized:
            k *= self.key_scales[layer][:, slots, None]
            v *= self.value_scales[layer][:, slots, None]
        return k.movedim(0, -2), v.movedim(0, -2)

    def _parts(self) -> tuple[Tensor, ...]:
        return self.keys, self.values, self.key_scales, self.value_scales


def token_bytes(config: GPTConfig, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in a pool of that dtype."""
    scale = _SCALE.itemsize if dtype == torch.int8 else 0
    return 2 * config.n_layer * config.n_kv_head * (config.head_dim * dtype.itemsize + scale)


def quantize_heads(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., D) float -> int8 of the same shape, symmetric, and float16 scales (...)."""
    scale = (x.abs().amax(-1).float() / 127).clamp_min(torch.finfo(_SCALE).tiny).to(_SCALE)
    return (x / scale[..., None].float()).round().clamp(-127, 127).to(torch.int8), scale


class PagedBatch:
    """One step's tokens of several sequences as one row (1, N): the `Cache` of a forward pass over the pool.

    The plain twin of the paged kernels: it gathers every sequence's keys and values.
    """

    def __init__(self, pool: KVPool, work: Sequence[Work]) -> None:
        self._pool = pool
        device = pool.keys.device
        self._segments: list[tuple[slice, Tensor, Tensor | None]] = []
        positions, previous, written, begin = [], [], [], 0
        for item in work:
            count = len(item.tokens)
            stop = item.start + count
            assert item.sequence.lease is not None
            slots = torch.from_numpy(pool.slots(item.sequence.lease.blocks, stop)).to(device)
            # one token sees everything, a whole prompt is plainly causal, a chunk needs a mask
            mask = torch.ones(count, stop, dtype=torch.bool, device=device).tril_(item.start) if count > 1 else None
            self._segments.append((slice(begin, begin + count), slots, mask))
            positions.append(torch.arange(item.start, stop))
            previous += item.previous
            written.append(slots[item.start :])
            begin += count
        self._positions = torch.cat(positions).to(device)
        self._previous = torch.tensor([previous], device=device)
        self._written = torch.cat(written)

    def begin(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self._positions, self._previous

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._pool.write(layer, self._written, k[0].transpose(0, 1), v[0].transpose(0, 1))
        outputs = []
        for segment, slots, mask in self._segments:
            seen_k, seen_v = (part.transpose(0, 1)[None] for part in self._pool.read(layer, slots, q.dtype))
            outputs.append(
                F.scaled_dot_product_attention(q[:, :, segment], seen_k, seen_v, attn_mask=mask, enable_gqa=True)
            )
        return torch.cat(outputs, dim=2)

    def end(self, tokens: Tensor) -> None:
        """Nothing: the scheduler counts."""
