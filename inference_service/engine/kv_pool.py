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


class KVPool:
    """Keys and values (layers, slots, K, D); slot `block * block_size + i` is the i-th token of a block."""

    def __init__(
        self, config: GPTConfig, num_blocks: int, block_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.block_size = block_size
        shape = (config.n_layer, num_blocks * block_size, config.n_kv_head, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def num_bytes(self) -> int:
        return 2 * self.keys.nbytes

    def copy(self, copies: Sequence[Copy]) -> None:
        """Do the copies in their order."""
        for source, target, tokens in copies:
            a, b = source * self.block_size, target * self.block_size
            self.keys[:, b : b + tokens] = self.keys[:, a : a + tokens]
            self.values[:, b : b + tokens] = self.values[:, a : a + tokens]

    def slots(self, blocks: Sequence[int], length: int) -> np.ndarray:
        """Slots (length,) int64 of the first tokens of a sequence that lies in `blocks`."""
        used = np.asarray(blocks[: -(-length // self.block_size)], dtype=np.int64)
        return (used[:, None] * self.block_size + np.arange(self.block_size)).reshape(-1)[:length]


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
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        keys[self._written] = k[0].transpose(0, 1).to(keys.dtype)
        values[self._written] = v[0].transpose(0, 1).to(values.dtype)
        outputs = []
        for segment, slots, mask in self._segments:
            seen_k, seen_v = (pool[slots].transpose(0, 1)[None].to(q.dtype) for pool in (keys, values))
            outputs.append(
                F.scaled_dot_product_attention(q[:, :, segment], seen_k, seen_v, attn_mask=mask, enable_gqa=True)
            )
        return torch.cat(outputs, dim=2)

    def end(self, tokens: Tensor) -> None:
        """Nothing: the scheduler counts."""
