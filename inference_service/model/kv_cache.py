"""Contiguous key/value cache of one sequence."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of up to `capacity` tokens, (layers, 1, K, capacity, D) each, float32 on a CPU.

    float32 there because attention with one bfloat16 query runs 9 times slower on x86. `length` is how many
    tokens are valid; lowering it forgets the tail without copying.
    """

    def __init__(
        self,
        n_layer: int,
        n_kv_head: int,
        head_dim: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (n_layer, 1, n_kv_head, capacity, head_dim)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (1, K, T, D) after the valid tokens; returns all keys and values (1, K, S, D) of the layer.

        `length` is advanced by the model after its last layer.
        """
        stop = self.length + k.shape[2]
        self._keys[layer, :, :, self.length : stop] = k
        self._values[layer, :, :, self.length : stop] = v
        return self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]

    def causal_mask(self, new: int) -> Tensor:
        """(new, length + new) bool: each new token sees the cached ones, itself and the new ones before it."""
        mask = torch.ones(new, self.length + new, dtype=torch.bool, device=self._keys.device)
        return mask.tril_(diagonal=self.length)
