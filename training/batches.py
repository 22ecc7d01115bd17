"""Batches for the loop: made by processes beside it, always the same for the same number."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from inference_service.model.tokenizer import Tokenizer
from training.distributed import Ranks
from training.fim import RowSampler
from training.recipe import BadRecipe, Recipe
from training.sampled_softmax import sample_head

# what the loss takes, one list a micro-batch; the UTF-8 bytes that its targets stand for
Batch = tuple[list[list[Tensor]], int]

_WORKERS = {"cpu": 1, "cuda": 4}  # one makes about a million tokens a second


class Batches(Dataset[Batch]):
    """The part of each global batch that falls to one process.

    Batch b has the rows b * R to (b + 1) * R of the sampler, dealt to the processes in turn: no matter how many there
    are, together they train on the same rows. Raises BadRecipe when there are more processes than rows.
    """

    def __init__(self, recipe: Recipe, sampler: RowSampler, tokenizer: Tokenizer, ranks: Ranks) -> None:
        self._recipe, self._sampler, self._ranks = recipe, sampler, ranks
        self._lengths = np.zeros(recipe.model.vocab_size, dtype=np.int64)
        self._lengths[: len(tokenizer.vocabulary)] = [len(token) for token in tokenizer.vocabulary]
        if recipe.train.rows < ranks.world:
            raise BadRecipe(
                f"recipe {recipe.name}: a batch of {recipe.train.rows} rows is less than one for each of "
                f"{ranks.world} processes: raise batch_tokens or start fewer"
            )

    def __getitem__(self, number: int) -> Batch:
        config = self._recipe.train
        first, every = number * config.rows, range(config.rows)
        mine = every[self._ranks.rank :: self._ranks.world]
        # the sample of the head is one for the whole batch, so it needs everybody's targets
        made = {i: self._sampler.row(first + i) for i in (every if self._recipe.head_tokens else mine)}
        rows = np.array(list(made.values()))
        extra: list[Tensor] = []
        targets = torch.from_numpy(rows[:, 1:].copy())
        if head_tokens := self._recipe.head_tokens:
            rng = np.random.default_rng([config.seed, number])
            sample = sample_head(rows[:, 1:].reshape(-1), self._recipe.model.vocab_size, head_tokens, rng)
            extra = [sample.tokens, sample.offsets]
            chosen = np.array(mine)
            targets, rows = sample.targets.view(len(rows), -1)[chosen], rows[chosen]
        inputs = torch.from_numpy(rows[:, :-1].copy())
        size = config.micro_batch_rows or len(inputs)
        pieces = zip(inputs.split(size), targets.split(size), strict=True)
        micro_batches = [[some, *extra, wanted.reshape(-1)] for some, wanted in pieces]
        return micro_batches, int(self._lengths[rows[:, 1:]].sum())

    def stream(self, step: int, skipped: Collection[int]) -> Generator[Batch]:
        """The batches from `step` on to the recipe's end. Raises what making them raised."""
        loader: DataLoader[_Answer] = DataLoader(
            _Answers(self),
            batch_size=None,
            sampler=[batch_number(number, skipped) for number in range(step, self._recipe.train.steps)],
            num_workers=_WORKERS[self._ranks.device.type],
            collate_fn=_as_it_is,
            worker_init_fn=_leave_group,
        )
        for answer in loader:
            if isinstance(answer, Exception):
                raise answer
            arrays, target_bytes = answer
            yield [[torch.from_numpy(array) for array in micro_batch] for micro_batch in arrays], target_bytes


def batch_number(step: int, skipped: Collection[int]) -> int:
    """The number of the batch that `step` trains on: the step-th of those that are not `skipped`."""
    number = step
    for bad in sorted(skipped):
        number += bad <= number
    return number


_Answer = tuple[list[list[np.ndarray]], int] | Exception


class _Answers(Dataset[_Answer]):
    """Batches as arrays, which go through a pipe: tensors would go through /dev/shm, which is small in containers.

    Errors as values, for a DataLoader would bury their message in a traceback.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> _Answer:
        try:
            micro_batches, target_bytes = self._batches[number]
        except (ValueError, OSError) as error:
            return error
        return [[tensor.numpy() for tensor in micro_batch] for micro_batch in micro_batches], target_bytes


def _as_it_is(answer: Any) -> Any:
    return answer


def _leave_group(_worker: int) -> None:
    """Ctrl-C and torchrun signal whole process groups; a worker has to live until its parent has finished the step."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
