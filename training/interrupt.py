"""Ctrl-C and SIGTERM while training: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(Exception):
    """Training stopped at a signal, after its checkpoint; `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(slots=True)
class Interruption:
    """`signal` is the number of the signal that came, 0 before."""

    signal: int = 0


@contextmanager
def caught_signals() -> Iterator[Interruption]:
    """Note the first SIGINT or SIGTERM; a second one ends the process at once."""
    interruption = Interruption()

    def note(number: int, _frame: FrameType | None) -> None:
        interruption.signal = number
        signal.signal(number, signal.SIG_DFL)
        print("\nstopping after this step and its checkpoint (again: stop at once)", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
