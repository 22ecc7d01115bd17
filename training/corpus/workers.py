"""Processes that write sources, so that all cores are busy."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from training.child_process import leave_ending_to_parent
from training.corpus.contamination import NO_BENCHMARKS, Benchmarks
from training.corpus.corpus_files import BadCorpus
from training.corpus.documents import write_source
from training.corpus.sources import NotUsable, Source

Outcome = Future[NotUsable | None]  # why a source stays out; its exceptions are those that end the run
_benchmarks = NO_BENCHMARKS  # of this worker process, for they may be too large to travel with every source


@contextlib.contextmanager
def workers(processes: int, benchmarks: Benchmarks) -> Iterator[Callable[[Source, Path], Outcome]]:
    """A function that has `write_source` run in one of `processes` processes; in this one when `processes` is 1.

    On an exception, an interrupt too, the processes are ended at once: unfinished sources leave nothing behind.
    Raises BadCorpus when a process was killed.
    """
    if processes == 1:
        yield lambda source, folder: settled(_attempt(source, folder, benchmarks))
        return
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start, (benchmarks,))
    try:
        yield lambda source, folder: pool.submit(_work, source, folder)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()).difference(others):
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise BadCorpus("a worker was killed, for want of memory most likely: use a smaller --workers") from error
        raise
    finally:
        pool.shutdown()


def settled(reason: NotUsable | None) -> Outcome:
    """An outcome that is known already."""
    future: Outcome = Future()
    future.set_result(reason)
    return future


def _start(benchmarks: Benchmarks) -> None:
    global _benchmarks
    _benchmarks = benchmarks
    leave_ending_to_parent()


def _work(source: Source, folder: Path) -> NotUsable | None:
    return _attempt(source, folder, _benchmarks)


def _attempt(source: Source, folder: Path, benchmarks: Benchmarks) -> NotUsable | None:
    try:
        write_source(source, folder, benchmarks)
    except NotUsable as reason:
        return NotUsable(f"{source.name}: {reason}")
    return None
