"""Which of two ways to compute a step is the faster one on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from inference_service.engine.block_manager import Lease
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.scheduler import Work
from inference_service.engine.sequence import Sequence as ScheduledSequence
from inference_service.model.config import GPTConfig

Compute = Callable[[Sequence[Work], KVPool], object]


def fastest_up_to(compute: Compute, other: Compute, counts: Sequence[int], config: GPTConfig) -> int:
    """The largest of the ascending `counts` of tokens up to which `compute` beats `other` on the CPU; 0 for none."""
    pool = KVPool(config, 1, max(counts, default=1), torch.device("cpu"), torch.float32)
    best = 0
    for count in counts:
        trial = ScheduledSequence([0] * count, lease=Lease([0], 0, 0))
        work = [Work(trial, 0, trial.tokens, 1)]
        if _seconds(compute, work, pool) > _seconds(other, work, pool):
            break
        best = count
    return best


def _seconds(compute: Compute, work: Sequence[Work], pool: KVPool) -> float:
    """The best of three runs after a first one."""
    compute(work, pool)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        compute(work, pool)
        times.append(time.perf_counter() - started)
    return min(times)
