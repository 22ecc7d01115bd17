"""What is counted about the two arms of an experiment, and when the candidate has to go. Pure functions."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

# 99.9 %: the interval is looked at after every completion, and a narrower one would sooner or later be left by chance.
_Z = 3.29
_SLOW_SHARE = 0.05  # by definition of the 95th percentile
_RECENT = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a candidate may fall behind. `max_error_rate` is a share, `max_latency_ratio` a factor on the control's
    95th percentile; nothing is judged on fewer than `min_samples`."""

    min_samples: int = 50
    max_error_rate: float = 0.02
    max_latency_ratio: float = 2.0


@dataclass(slots=True)
class Arm:
    """Counts of one version in an experiment. `slow` are the completions beyond the latency limit."""

    completions: int = 0
    errors: int = 0
    timed: int = 0
    slow: int = 0
    shown: int = 0
    accepted: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, seconds: float, limit: float | None) -> None:
        """One good completion that took `seconds`; `limit` is what counts as slow, None as long as that is unknown."""
        self.completions += 1
        self.seconds.append(seconds)
        if limit is not None:
            self.timed += 1
            self.slow += seconds > limit

    def fail(self) -> None:
        """One completion that ended in a fault."""
        self.completions += 1
        self.errors += 1

    def percentile(self, share: float) -> float | None:
        """Of the recent completions' seconds; None without any."""
        values = sorted(self.seconds)
        return values[min(int(share * len(values)), len(values) - 1)] if values else None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The Wilson score interval (1927) of a proportion; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    p = successes / trials
    centre = p + _Z * _Z / (2 * trials)
    spread = _Z * math.sqrt(p * (1 - p) / trials + _Z * _Z / (4 * trials * trials))
    scale = 1 + _Z * _Z / trials
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)


def verdict(limits: Limits, control: Arm, candidate: Arm) -> str | None:
    """Why the candidate has to be taken back ("errors", "latency" or "acceptance"), or None.

    Errors: even the lowest plausible rate is above the limit. Latency: even the lowest plausible share of slow
    completions is above the control's own 5 %. Acceptance: even the best plausible rate is below the control's worst.
    """
    enough = limits.min_samples
    if candidate.completions >= enough and wilson(candidate.errors, candidate.completions)[0] > limits.max_error_rate:
        return "errors"
    if candidate.timed >= enough and wilson(candidate.slow, candidate.timed)[0] > _SLOW_SHARE:
        return "latency"
    if min(candidate.shown, control.shown) >= enough:
        best, worst = wilson(candidate.accepted, candidate.shown)[1], wilson(control.accepted, control.shown)[0]
        if best < worst:
            return "acceptance"
    return None
