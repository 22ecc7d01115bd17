"""How steps are computed on a CPU: by the compiled step as soon as there is one, until then by torch's operators."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inference_service.engine.kv_pool import KVPool, PagedBatch
from inference_service.engine.sampler import pick_greedy
from inference_service.engine.scheduler import Work, wanted_rows
from inference_service.engine.tuning import Choice, chosen, remembered
from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT
from inference_service.model.quantize import build_int8, int8_linear_works

if TYPE_CHECKING:
    from inference_service.engine.kernels.fused import FusedStep

TUNING_THREAD = "midfill-tune"
_OPERATORS = "operators"

log = logging.getLogger(__name__)


def by_operators(model: GPT, work: Sequence[Work], pool: KVPool) -> Tensor:
    """Compute the work with the model's own operators; logits (R, V) float32 of the positions that it asks for."""
    tokens = torch.tensor([[token for item in work for token in item.tokens]], device=pool.keys.device)
    states = model.hidden(tokens, PagedBatch(pool, work))
    return model.head(states[0, wanted_rows(work)])


class CpuKernels:
    """The ways to compute a step of one model, and the choice among them by its number of tokens."""

    def __init__(self, loaded: LoadedModel, threads: int, tuned: threading.Event, compiled: bool = True) -> None:
        """`tuned` is set when the choice is final; without `compiled` it is the operators, at once."""
        self._fused: FusedStep | None = None
        self._choice: Choice = {1: _OPERATORS}
        self._model: GPT | None
        if int8_linear_works():
            self._model = build_int8(loaded)
            self._operators = f"operators with int8 activations ({torch.backends.quantized.engine})"
        else:
            self._model = loaded.build_float()
            self._operators = "float32 operators: this build of torch has no int8 kernel for this processor"
        if not compiled:
            tuned.set()
            return
        # compiling takes seconds the first time: meanwhile the operators serve
        threading.Thread(target=self._tune, args=(loaded, threads, tuned), name=TUNING_THREAD, daemon=True).start()

    @property
    def description(self) -> str:
        """What computes steps of which sizes, for people."""
        ranges, begin = [], 1
        for name, sizes in groupby(sorted(self._choice), key=lambda size: self._choice[size]):
            last = max(sizes)
            sizes_told = str(begin) if begin == last else f"{begin} to {last}"
            ranges.append(f"{sizes_told}: {self._operators if name == _OPERATORS else name}")
            begin = last + 1
        return "; ".join(ranges) if len(ranges) > 1 else ranges[0].split(": ", 1)[1]

    def forward(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        """Compute the work; logits (R, V) float32 of the positions that it asks for, in its order."""
        return self._way(chosen(self._choice, sum(len(item.tokens) for item in work)))(work, pool)

    def pick_greedy(self, logits: Tensor) -> Tensor:
        """`sampler.pick_greedy`, compiled as soon as the step is."""
        return pick_greedy(logits) if self._fused is None else self._fused.pick_greedy(logits)

    def _way(self, name: str) -> Callable[[Sequence[Work], KVPool], Tensor]:
        if name == _OPERATORS:
            return self._by_operators
        assert self._fused is not None
        return self._fused.ways()[name]

    def _by_operators(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        assert self._model is not None
        return by_operators(self._model, work, pool)

    def _tune(self, loaded: LoadedModel, threads: int, tuned: threading.Event) -> None:
        """Compile the fused step and measure which way is the fastest for which size on this machine."""
        try:
            from inference_service.engine.kernels.fused import FusedStep

            fused = FusedStep(loaded.config, loaded.floats, loaded.int8, threads)
            with torch.inference_mode():
                choice = remembered(fused.ways() | {_OPERATORS: self._by_operators}, loaded.config)
                fused.pick_greedy(torch.zeros(1, loaded.config.vocab_size))  # compiled now, not for the first request
        except Exception as fault:  # whatever a compiler can run into on some machine, the operators do serve
            log.warning("the fused step is not used on this machine: %s", fault)
        else:
            self._fused, self._choice = fused, choice
        tuned.set()
