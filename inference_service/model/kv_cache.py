"""Contiguous key/value cache of one sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
        self._tokens = torch.zeros(1, capacity + 1, device=device, dtype=torch.long)  # shifted by one
        self.capacity = capacity
        self.length = 0
        self._mask: Tensor | None = None

    def begin(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Announce tokens (1, T) after the valid ones: their positions (T,) and the tokens before them (1, T).

        The token before the first is 0. Raises ValueError when they do not fit.
        """
        start, stop = self.length, self.length + tokens.shape[1]
        if stop > self.capacity:
            raise ValueError(f"{stop} tokens do not fit a cache of {self.capacity}")
        self._tokens[:, start + 1 : stop + 1] = tokens
        # several tokens after cached ones need a mask of their own; it is the same for all layers
        self._mask = self._causal_mask(tokens.shape[1]) if start and tokens.shape[1] > 1 else None
        return torch.arange(start, stop, device=tokens.device), self._tokens[:, start:stop]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k, v (1, K, T, D) after the valid tokens; q (1, H, T, D) attends to all of them -> (1, H, T, D)."""
        B, H, T, D = q.shape
        stop = self.length + T
        self._keys[layer, :, :, self.length : stop] = k
        self._values[layer, :, :, self.length : stop] = v
        k, v = self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]
        if T == 1:
            # all query heads of one key/value head attend as rows of one small matrix: no mask, no repeated keys
            # (and on a CPU four times faster than scaled_dot_product_attention)
            scores = q.reshape(B, k.shape[1], -1, D) * D**-0.5 @ k.transpose(2, 3)
            return (scores.softmax(-1) @ v).reshape(B, H, 1, D)
        mask = self._mask
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)

    def end(self, tokens: Tensor) -> None:
        """All layers have attended: the new tokens are valid."""
        self.length += tokens.shape[1]

    def _causal_mask(self, new: int) -> Tensor:
        """(new, length + new) bool: each new token sees the cached ones, itself and the new ones before it."""
        mask = torch.ones(new, self.length + new, dtype=torch.bool, device=self._keys.device)
        return mask.tril_(diagonal=self.length)
