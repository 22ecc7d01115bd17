"""Worker processes that write shards."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from tqdm import tqdm

from inference_service.model.tokenizer import Tokenizer
from training.child_process import leave_ending_to_parent
from training.documents import Block
from training.shards.layout import BadShard
from training.shards.writer import write_shard

_REFRESH = 0.2  # seconds between two looks at the progress


def write_shards(todo: dict[int, Block], folder: Path, tokenizer: Tokenizer, workers: int, title: str) -> None:
    """Write each numbered block as a shard, showing progress in bytes of corpus. Raises BadDocuments or BadShard."""
    size = sum(block.end - block.begin for block in todo.values())
    with tqdm(total=size, desc=title, unit="B", unit_scale=True, disable=not todo) as bar:
        if min(workers, len(todo)) <= 1:
            for number, block in todo.items():
                write_shard(block, folder, number, tokenizer, bar.update)
        else:
            _in_processes(todo, folder, tokenizer, min(workers, len(todo)), bar)


def _in_processes(todo: dict[int, Block], folder: Path, tokenizer: Tokenizer, workers: int, bar: tqdm) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    done_bytes, stop = context.Value("Q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (folder, tokenizer, done_bytes, stop))
    try:
        unfinished = {pool.submit(_work, number, block) for number, block in todo.items()}
        while unfinished:
            done, unfinished = wait(unfinished, _REFRESH, FIRST_COMPLETED)
            bar.update(done_bytes.value - bar.n)
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise BadShard(
            "a worker process was killed, probably for want of memory: run `midfill-train prepare` again with fewer "
            "--workers; finished shards are kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """Another worker failed, or somebody pressed Ctrl-C."""


def _start_worker(folder: Path, tokenizer: Tokenizer, done_bytes: Synchronized[int], stop: Event) -> None:
    global _work_on
    leave_ending_to_parent()  # it sets `stop`

    def advanced(length: int) -> None:
        if stop.is_set():
            raise _Stopped
        with done_bytes.get_lock():
            done_bytes.value += length

    def work_on(number: int, block: Block) -> None:
        write_shard(block, folder, number, tokenizer, advanced)

    _work_on = work_on


_work_on: Callable[[int, Block], None]  # of this worker process


def _work(number: int, block: Block) -> None:
    _work_on(number, block)
