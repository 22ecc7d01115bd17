"""Owns the model's tensors on one device."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from inference_service.model.directory import LoadedModel
from inference_service.model.kv_cache import KVCache
from inference_service.model.quantize import int8_linear_works, use_int8_linears


def pick_device(device: str) -> torch.device:
    """ "auto" takes CUDA where there is one. Raises ValueError when "cuda" is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is visible: use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


class Runner:
    """Forward passes of single sequences over their caches."""

    def __init__(self, loaded: LoadedModel, device: str, threads: int) -> None:
        self.device = pick_device(device)
        self.config = loaded.config
        self.context_length = loaded.config.context_length
        self._model = loaded.build_float()
        if self.device.type == "cpu":
            # more threads than this cost a small model more in waiting than they bring
            torch.set_num_threads(threads or min(4, os.cpu_count() or 1))
            self._dtype = torch.float32
            self.kernel = "float32: this build of torch has no int8 kernel for this processor"
            if int8_linear_works():
                use_int8_linears(self._model, loaded.int8)
                self.kernel = f"int8 dynamic W8A8 ({torch.backends.quantized.engine}), float32 KV cache"
        else:
            self._dtype = torch.bfloat16
            self._model.to(self.device, self._dtype)
            self.kernel = "bfloat16"
        self.threads = torch.get_num_threads()

    def new_cache(self) -> KVCache:
        c = self.config
        return KVCache(c.n_layer, c.n_kv_head, c.head_dim, c.context_length, self.device, self._dtype)

    def prefill(self, tokens: list[int], cache: KVCache) -> None:
        """Append `tokens` to the cache without computing logits."""
        self._model.hidden(self._batch(tokens), cache)

    def forward(self, tokens: list[int], cache: KVCache) -> Tensor:
        """Append `tokens`; logits (V,) float32 of the position after the last one."""
        return self._model.head(self._model.hidden(self._batch(tokens), cache)[0, -1:])[0]

    def _batch(self, tokens: list[int]) -> Tensor:
        return torch.tensor([tokens], device=self.device)
