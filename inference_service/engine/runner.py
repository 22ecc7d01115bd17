"""Owns the model's tensors on one device and computes steps."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inference_service.engine.block_manager import Copy
from inference_service.engine.kv_pool import KVPool, PagedBatch
from inference_service.engine.scheduler import Work, wanted_rows
from inference_service.engine.tuning import fastest_up_to
from inference_service.model.directory import LoadedModel
from inference_service.model.quantize import int8_linear_works, use_int8_linears

if TYPE_CHECKING:
    from inference_service.engine.kernels.fused import FusedStep

BLOCK_SIZE = 16
_CANDIDATE_TOKENS = (1, 4, 8, 16, 32, 64)
CPU_CACHE_BYTES = 256 * 2**20
GPU_CACHE_SHARE = 0.5  # of the memory that is free once the weights are loaded

Int8Matrices = Mapping[str, tuple[Tensor, Tensor]]

log = logging.getLogger(__name__)


def pick_device(device: str) -> torch.device:
    """ "auto" takes CUDA where there is one. Raises ValueError when "cuda" is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is visible: use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


class Runner:
    """Forward passes over the paged cache. Not safe for several threads."""

    def __init__(self, loaded: LoadedModel, device: str, threads: int) -> None:
        self.device = pick_device(device)
        self.config = loaded.config
        self.context_length = loaded.config.context_length
        self._model = loaded.build_float()
        self._fused: FusedStep | None = None
        self._fused_tokens = 0  # the most tokens of a step for which the fused step is the faster one
        self.tuned = threading.Event()  # the choice of kernels is final
        if self.device.type == "cpu":
            # more threads than this cost a small model more in waiting than they bring
            torch.set_num_threads(threads or min(4, os.cpu_count() or 1))
            self._dtype = torch.float32
            self._use_cpu_kernels(loaded)
        else:
            self._dtype = torch.bfloat16
            self._model.to(self.device, self._dtype)
            self.kernel = "bfloat16"
            self.tuned.set()
        self.threads = torch.get_num_threads()
        self.pool = KVPool(self.config, self._num_blocks(), BLOCK_SIZE, self.device, self._dtype)

    def _use_cpu_kernels(self, loaded: LoadedModel) -> None:
        parameters = {name: parameter.detach() for name, parameter in self._model.named_parameters()}
        self.kernel = "float32: this build of torch has no int8 kernel for this processor"
        if int8_linear_works():
            use_int8_linears(self._model, loaded.int8)
            self.kernel = f"int8 dynamic W8A8 ({torch.backends.quantized.engine}), float32 KV cache"
        # compiling takes seconds the first time: meanwhile the operators serve
        threading.Thread(target=self._tune, args=(parameters, loaded.int8), name="midfill-tune", daemon=True).start()

    def _tune(self, parameters: Mapping[str, Tensor], int8: Int8Matrices) -> None:
        """Compile the fused step and measure up to how many tokens it beats the operators on this machine."""
        try:
            from inference_service.engine.kernels.fused import FusedStep

            fused = FusedStep(self.config, parameters, int8)
            with torch.inference_mode():
                tokens = fastest_up_to(fused.logits, self._operators, _CANDIDATE_TOKENS, self.config)
        except Exception as fault:  # whatever a compiler can run into on some machine, the operators do serve
            log.warning("the fused step is not used on this machine: %s", fault)
        else:
            if tokens:
                self.kernel = f"fused step of int8 weights (numba) up to {tokens} tokens, then {self.kernel}"
            self._fused, self._fused_tokens = fused, tokens
        self.tuned.set()

    def _num_blocks(self) -> int:
        c = self.config
        token = 2 * c.n_layer * c.n_kv_head * c.head_dim * self._dtype.itemsize
        memory = CPU_CACHE_BYTES
        if self.device.type == "cuda":
            memory = int(torch.cuda.mem_get_info(self.device)[0] * GPU_CACHE_SHARE)
        return max(memory // (token * BLOCK_SIZE), -(-self.context_length // BLOCK_SIZE))

    @property
    def num_blocks(self) -> int:
        return self.cache_tokens // BLOCK_SIZE

    @property
    def cache_tokens(self) -> int:
        """How many tokens the paged cache holds."""
        return self.pool.num_blocks * BLOCK_SIZE

    def copy(self, copies: Sequence[Copy]) -> None:
        """Do a step's copies, before it is computed."""
        self.pool.copy(copies)

    def forward(self, work: Sequence[Work]) -> Tensor:
        """Compute the work; logits (R, V) float32 of the positions that it asks for, in its order.

        Computing the same work again gives the same result.
        """
        if self._fused is not None and sum(len(item.tokens) for item in work) <= self._fused_tokens:
            return self._fused.logits(work, self.pool)
        return self._operators(work, self.pool)

    def _operators(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        tokens = torch.tensor([[token for item in work for token in item.tokens]], device=self.device)
        states = self._model.hidden(tokens, PagedBatch(pool, work))
        return self._model.head(states[0, wanted_rows(work)])
