"""The guard against steps that would spoil a training: non-finite numbers and spikes of loss or gradient.

What to do about one is PaLM's recipe (Chowdhery et al. 2022, section 5.1): go back to a checkpoint before it and
leave out the batches that led to it.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any

WINDOW = 50  # steps that a spike is judged by
REWINDS = 4  # to the same checkpoint, before giving up
_SIGMAS = 8.0
_SMALLEST_RISE = 0.2  # of the mean loss; steady losses have a tiny deviation
_LARGEST_GRADIENT = 30.0  # times the median


class Diverged(ValueError):
    """Going back did not help; the message says where, and what to do."""


def _recent() -> deque[float]:
    return deque(maxlen=WINDOW)


@dataclass
class Guard:
    """Judges steps by the last accepted ones. Its state goes into checkpoints: all processes, and a resumed run,
    judge alike.

    `skipped` are the numbers of the batches that are left out.
    """

    losses: deque[float] = field(default_factory=_recent)  # nats a token
    norms: deque[float] = field(default_factory=_recent)
    skipped: list[int] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "norms": list(self.norms), "skipped": self.skipped}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Guard:
        """The guard of a checkpoint; a new one for a checkpoint that is older than the guard."""
        losses, norms = (deque(state.get(key, []), maxlen=WINDOW) for key in ("losses", "norms"))
        return cls(losses, norms, list(state.get("skipped", [])))

    def problem(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step of this loss and gradient norm, None to accept it."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            return f"loss {loss}, gradient norm {norm}"
        if len(self.losses) == WINDOW:
            mean, deviation = statistics.fmean(self.losses), statistics.pstdev(self.losses)
            if loss > mean + max(_SIGMAS * deviation, _SMALLEST_RISE * mean):
                return f"loss {loss:.3f} after a mean of {mean:.3f}"
            usual = statistics.median(self.norms)
            if norm > _LARGEST_GRADIENT * usual:
                return f"gradient norm {norm:.3g} after a median of {usual:.3g}"
        return None

    def accept(self, loss: float, norm: float) -> None:
        self.losses.append(loss)
        self.norms.append(norm)


def to_skip(seen: list[int], rewinds: int) -> list[int]:
    """Which of the batches since the checkpoint to leave out, the last of `seen` being the offending one: only that
    one at first, at each further rewind four times as many before it."""
    return seen[-(4**rewinds) :]
