"""Threads that compute one function together, phase by phase.

Every member runs the same compiled function. In each phase it takes the next piece of work that nobody has taken and
goes on when all pieces are done. So a member that wakes late, or that the system has put aside, keeps nobody waiting
longer than for the piece in its hands; fork and join of a thread pool would wait for it at each of a hundred phases.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from inference_service.engine.kernels.jit import shared
from inference_service.engine.kernels.simd import atomic_increment, atomic_load, pause

_LINE = 8  # int64 numbers a cache line: two counters on one would slow each other
_SPINS = 500  # then the processor is offered to whom the system likes
_yield_processor = types.ExternalFunction("sched_yield", types.int32())
_CAN_YIELD = hasattr(os, "sched_yield")


def counters(phases: int) -> np.ndarray:
    """The state of a function of so many phases, before it begins."""
    return np.zeros(2 * _LINE * phases, np.int64)


@shared
def take(state, phase):  # type: ignore[no-untyped-def]
    """The number of the next piece of a phase; beyond the last one it is no piece."""
    return atomic_increment(state, 2 * _LINE * phase)


@shared
def done(state, phase):  # type: ignore[no-untyped-def]
    """A piece is done."""
    atomic_increment(state, 2 * _LINE * phase + _LINE)


@shared
def wait(state, phase, pieces):  # type: ignore[no-untyped-def]
    """Until all pieces of a phase are done."""
    spins = 0
    while atomic_load(state, 2 * _LINE * phase + _LINE) < pieces:
        pause()  # type: ignore[call-arg]
        spins += 1
        if _CAN_YIELD and spins > _SPINS:
            _yield_processor()


class Team:
    """The calling thread and `threads - 1` helpers, which sleep between calls and end with the object."""

    def __init__(self, threads: int) -> None:
        self._inboxes: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(threads - 1)]
        for inbox in self._inboxes:
            threading.Thread(target=_help, args=(inbox,), name="midfill-step", daemon=True).start()
        weakref.finalize(self, _dismiss, self._inboxes)

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a compiled function that shares its work by `take` on all members."""
        for inbox in self._inboxes:
            inbox.put((function, arguments))
        function(*arguments)


def _help(inbox: queue.SimpleQueue[Any]) -> None:
    while (call := inbox.get()) is not None:
        function, arguments = call
        function(*arguments)
        del call, function, arguments  # what they hold is not kept until the next call


def _dismiss(inboxes: list[queue.SimpleQueue[Any]]) -> None:
    for inbox in inboxes:
        inbox.put(None)
