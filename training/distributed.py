"""The processes of one training: torchrun's environment, their device, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(minutes=10)  # the first step of the slowest process compiles


class NoDevice(ValueError):
    """The device that was asked for is not there."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is `rank` of `world`, and computes on `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """The sums of `values` over all processes: the same numbers, to the bit, on each of them."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def mean_of_touched_rows(self, gradient: Tensor) -> None:
        """Make the gradient of a table (rows, width) the mean over all processes, in place.

        Only rows that are not zero on every process are exchanged: a batch looks up few rows of a large table, and
        between CPUs the exchange takes as long as much of the arithmetic.
        """
        touched = gradient.ne(0).any(dim=1).to(torch.uint8)
        dist.all_reduce(touched, dist.ReduceOp.MAX)
        rows = touched.nonzero().squeeze(1)
        exchanged = gradient[rows]
        dist.all_reduce(exchanged)
        gradient[rows] = exchanged.div_(self.world)


def find_device(kind: str) -> torch.device:
    """This process's device of a kind, "cpu" or "cuda". Raises NoDevice."""
    if kind != "cuda":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoDevice("PyTorch sees no GPU on this machine: leave --device out, or install its CUDA build")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


@contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started (gloo on CPUs, nccl on GPUs); alone without torchrun.

    Raises NoDevice.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    target = find_device(device)
    if device == "cuda":
        torch.cuda.set_device(target)
    if world > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    yield Ranks(rank, world, target)
    if world > 1:  # not after an error: there the others may be gone, and nccl would wait for them
        dist.destroy_process_group()
