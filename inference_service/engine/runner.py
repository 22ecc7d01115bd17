"""Owns the model's tensors on one device and computes steps."""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inference_service.engine.bandwidth import measure_bandwidth
from inference_service.engine.block_manager import Copy
from inference_service.engine.cpu_kernels import CpuKernels, by_operators
from inference_service.engine.kv_pool import KVPool, token_bytes
from inference_service.engine.sampler import Row, Sampled, pick, to_host
from inference_service.engine.scheduler import Work
from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT
from inference_service.model.location import BadModel
from inference_service.model.quantize import round_to_int8

if TYPE_CHECKING:
    from inference_service.engine.static_step import StaticStep

BLOCK_SIZE = 16
CPU_CONTEXT_BYTES = 2**30  # a sequence of the longest context must fit; a longer context is not served
_SHORT = 32  # tokens of one sequence that are worth a row each
CPU_CACHE_BYTES = 256 * 2**20
GPU_CACHE_SHARE = 0.5  # of the memory that is free once the weights are loaded

Int8Matrices = Mapping[str, tuple[Tensor, Tensor]]

log = logging.getLogger(__name__)


def pick_device(device: str) -> torch.device:
    """ "auto" takes CUDA where there is one. Raises BadModel when "cuda" is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadModel("no CUDA device is visible: use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


class Pending:
    """A step that was given to the device."""

    def __init__(self, picked: Tensor | None) -> None:
        self._picked = picked

    @property
    def ready(self) -> bool:
        """Whether `result` returns without waiting for the device."""
        return self._picked is None or self._picked.device.type == "cpu"

    def result(self) -> list[Sampled]:
        return [] if self._picked is None else to_host(self._picked)


class Runner:
    """Forward passes over the paged cache. Not safe for several threads."""

    def __init__(self, loaded: LoadedModel, device: str, threads: int, kv_cache: str = "auto") -> None:
        """`kv_cache` is "float", "int8" or "auto": int8 on a GPU, where reading it is what a step waits for."""
        self.device = pick_device(device)
        self.config = loaded.config
        self.context_length = loaded.config.context_length
        self._weight_bytes = _weight_bytes(loaded)
        self._cpu: CpuKernels | None = None
        self._static: StaticStep | None = None
        int8_cache = kv_cache == "int8" or (kv_cache == "auto" and self.device.type == "cuda")
        self._cache_dtype = torch.int8 if int8_cache else torch.bfloat16
        self.tuned = threading.Event()  # the choice of kernels is final
        if self.device.type == "cpu":
            # more threads than this cost a small model more in waiting than they bring
            torch.set_num_threads(threads or min(4, os.cpu_count() or 1))
            # the compiled step reads bfloat16 keys and values only
            self._cpu = CpuKernels(loaded, torch.get_num_threads(), self.tuned, compiled=not int8_cache)
            self.context_length = self._affordable(self.context_length)
        else:
            self._model = loaded.build_float()
            round_to_int8(self._model, loaded.int8)  # both ways of a step have to compute the same model
            parameters = {name: parameter.detach() for name, parameter in self._model.named_parameters()}
            self._model = copy.deepcopy(self._model).to(self.device, torch.bfloat16)
            self._gpu_kernel = "bfloat16 operators"
        self.bandwidth = measure_bandwidth(self.device)
        self.threads = torch.get_num_threads()
        self.pool = KVPool(self.config, self._num_blocks(), BLOCK_SIZE, self.device, self._cache_dtype)
        if self.device.type == "cuda":
            self._use_gpu_kernels(parameters, loaded.int8)

    @property
    def cache_type(self) -> str:
        """What the paged cache holds, for people."""
        name = str(self._cache_dtype).removeprefix("torch.")
        return f"{name}, a scale for each head of each token" if self.pool.quantized else name

    def _affordable(self, context_length: int) -> int:
        """As much of the context as the memory for one sequence's keys and values allows."""
        token = token_bytes(self.config, self._cache_dtype)
        tokens = max(CPU_CONTEXT_BYTES // token // BLOCK_SIZE, 1) * BLOCK_SIZE
        if tokens >= context_length:
            return context_length
        log.warning(
            "serving %d of the model's %d tokens of context: all of them would take %.1f GiB of keys and values a "
            "request; serve it on a GPU to use them", tokens, context_length, context_length * token / 2**30,
        )  # fmt: skip
        return tokens

    def _use_gpu_kernels(self, parameters: Mapping[str, Tensor], int8: Int8Matrices) -> None:
        """Record the steps of few tokens, before the first request: recording and computing do not mix."""
        try:
            from inference_service.engine.cuda_graphs import capture
            from inference_service.engine.kernels import triton_kernels
            from inference_service.engine.kernels.row_step import RowStep
            from inference_service.engine.static_step import StaticStep, agrees

            with torch.inference_mode():
                rows = RowStep(self.config, parameters, int8, triton_kernels, self.device)
                static = StaticStep(rows, self.pool, self.context_length, capture)
                if not agrees(static, self._operators, self.pool):
                    raise RuntimeError("they do not compute what the operators compute")
        except Exception as fault:  # whatever a compiler can run into on some machine, the operators do serve
            log.warning("the Triton kernels are not used on this machine: %s", fault)
        else:
            self._static = static
            graphs = f"CUDA graphs of int8 Triton kernels up to {static.max_tokens} tokens"
            self._gpu_kernel = f"{graphs}, then {self._gpu_kernel}"
        self.tuned.set()

    def _num_blocks(self) -> int:
        token = token_bytes(self.config, self._cache_dtype)
        memory = CPU_CACHE_BYTES
        if self.device.type == "cuda":
            memory = int(torch.cuda.mem_get_info(self.device)[0] * GPU_CACHE_SHARE)
        return max(memory // (token * BLOCK_SIZE), -(-self.context_length // BLOCK_SIZE))

    @property
    def kernel(self) -> str:
        """What computes the steps, for people."""
        return self._gpu_kernel if self._cpu is None else self._cpu.description

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

    def launch(self, work: Sequence[Work], rows: Sequence[Row]) -> Pending:
        """Compute the work and sample the positions that it asks for, as the `rows` say, in its order.

        A GPU goes on computing when this returns.
        """
        greedy = None
        if self._static is not None and sum(len(item.tokens) for item in work) <= self._static.max_tokens:
            logits, greedy = self._static.compute(work)
        else:
            logits = self.forward(work)
            if self._cpu is not None and rows and all(row.is_greedy for row in rows):
                greedy = self._cpu.pick_greedy(logits)
        return Pending(pick(logits, rows, greedy) if rows else None)

    def bytes_read(self, work: Sequence[Work]) -> int:
        """Of weights and cache, by an ideal step that reads each once."""
        seen = sum(item.start + len(item.tokens) for item in work)
        return self._weight_bytes + seen * token_bytes(self.config, self._cache_dtype)

    def works(self) -> bool:
        """Whether the device still computes: after some faults of a GPU only another process can."""
        try:
            return bool(torch.ones(2, device=self.device).sum().item() == 2)
        except RuntimeError:
            return False

    def release_memory(self) -> None:
        """Give what torch only keeps for later back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def forward(self, work: Sequence[Work]) -> Tensor:
        """Compute the work; logits (R, V) float32 of the positions that it asks for, in its order.

        Computing the same work again gives the same result.
        """
        if self._cpu is not None:
            return self._cpu.forward(work, self.pool)
        if self._static is not None:
            return self._split(work, self._static)
        return self._operators(work, self.pool)

    def _split(self, work: Sequence[Work], static: StaticStep) -> Tensor:
        """Short items by the recorded step, long ones by the operators: those read a sequence's keys once for all of
        an item's tokens, but pay dozens of launches for each item."""
        room, is_short = static.max_tokens, []
        for item in work:
            is_short.append(len(item.tokens) <= min(room, _SHORT))
            room -= len(item.tokens) if is_short[-1] else 0
        short = [item for item, fits in zip(work, is_short, strict=True) if fits]
        long = [item for item, fits in zip(work, is_short, strict=True) if not fits]
        if not long:
            return static.compute(short)[0]
        of_long = self._operators(long, self.pool)
        if not short:
            return of_long
        of_short = static.compute(short)[0]
        pieces = {True: iter(of_short.split([item.logits for item in short]))}
        pieces[False] = iter(of_long.split([item.logits for item in long]))
        return torch.cat([next(pieces[fits]) for fits in is_short])

    def _operators(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        return by_operators(self._model, work, pool)


def _weight_bytes(loaded: LoadedModel) -> int:
    """Of int8 weights that every step reads: embeddings are looked up."""
    with torch.device("meta"):
        model = GPT(loaded.config)
    return sum(parameter.numel() for parameter in model.blocks.parameters()) + model.head_weight.numel()
