"""Steps of few tokens over buffers that never move, padded to a ladder of sizes: what a CUDA graph can replay."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inference_service.engine.block_manager import Lease
from inference_service.engine.cuda_graphs import Function
from inference_service.engine.kernels.parts import Rows
from inference_service.engine.kernels.row_step import RowStep
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.sampler import pick_greedy
from inference_service.engine.scheduler import Work, wanted_rows
from inference_service.engine.sequence import Sequence as ScheduledSequence

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TOLERANCE = 0.05
_COLUMNS = 4  # of the buffer, before the block table: token, token before it, position, slot


class StaticStep:
    """One recorded step for each of `sizes`. A step costs one copy to the device and one replay.

    Rows that only pad a step write to the pool's scratch block and see nothing else. `record` turns a function without
    arguments into one that does the same again: `cuda_graphs.capture`, or `uncaptured`.
    """

    def __init__(
        self, step: RowStep, pool: KVPool, context_length: int, record: Callable[[Function], Function],
        sizes: Sequence[int] = SIZES,
    ) -> None:  # fmt: skip
        self._step, self._pool, self._sizes = step, pool, sizes
        device = pool.keys.device
        width = _COLUMNS + -(-context_length // pool.block_size)
        self._host = torch.zeros(sizes[-1], width, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._filled = self._host.numpy()
        self._unused()
        self._rows = self._host.to(device, copy=True)
        self._outputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._replays = {size: record(self._function(size)) for size in sizes}

    @property
    def max_tokens(self) -> int:
        """Steps of more tokens do not fit."""
        return self._sizes[-1]

    def compute(self, work: Sequence[Work]) -> tuple[Tensor, Tensor]:
        """Logits (R, V) float32 of the positions that the work asks for, and `pick_greedy` of them.

        Both are on the device and valid until the next step.
        """
        count = sum(len(item.tokens) for item in work)
        size = self._sizes[bisect_left(self._sizes, count)]
        self._fill(work, size)
        self._rows[:size].copy_(self._host[:size])
        self._replays[size]()
        logits, picked = self._outputs[size]
        wanted = wanted_rows(work)
        if wanted == list(range(count)):
            return logits[:count], picked[:, :count]
        index = torch.tensor(wanted, device=logits.device)
        return logits[index], picked[:, index]

    def _fill(self, work: Sequence[Work], size: int) -> None:
        rows, n = self._filled, 0
        for item in work:
            lease = item.sequence.lease
            assert lease is not None
            stop, blocks = n + len(item.tokens), lease.blocks
            positions = range(item.start, item.start + len(item.tokens))
            rows[n:stop, 0] = item.tokens
            rows[n:stop, 1] = item.previous
            rows[n:stop, 2] = positions
            page = self._pool.block_size
            rows[n:stop, 3] = [blocks[at // page] * page + at % page for at in positions]
            rows[n:stop, _COLUMNS : _COLUMNS + len(blocks)] = blocks
            n = stop
        if n < size:
            self._unused(n, size)

    def _unused(self, start: int = 0, stop: int | None = None) -> None:
        self._filled[start:stop, :3] = 0
        self._filled[start:stop, 3] = self._pool.scratch_slot
        self._filled[start:stop, _COLUMNS:] = self._pool.num_blocks

    def _function(self, size: int) -> Function:
        def function() -> None:
            part = self._rows[:size]
            tokens, previous, positions, slots = part[:, :_COLUMNS].T.contiguous()
            logits = self._step.logits(Rows(tokens, previous, positions, slots, part[:, _COLUMNS:]), self._pool)
            self._outputs[size] = logits, pick_greedy(logits)

        return function


def agrees(step: StaticStep, other: Callable[[Sequence[Work], KVPool], Tensor], pool: KVPool) -> bool:
    """Whether the step computes the logits of `other`, to the precision of bfloat16, for a few tokens in block 0."""
    count = min(8, pool.block_size, step.max_tokens)
    trial = ScheduledSequence(list(range(count)), lease=Lease([0], 0, 0))
    work = [Work(trial, 0, trial.tokens, count)]
    expected = other(work, pool)
    difference = step.compute(work)[0] - expected
    return bool(difference.norm() <= _TOLERANCE * expected.norm())
