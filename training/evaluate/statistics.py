"""Figures with 95 % confidence intervals, and paired tests between two models on the same material."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_RESAMPLES = 4000
_SEED = 1


@dataclass(frozen=True)
class Sample:
    """What a figure was measured on: it is sum(values) / sum(weights), both (units,) float64.

    A unit is what is drawn independently: a hole, a document. `is_share`: the values are 0 or 1, the weights 1.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    is_share: bool = False

    @property
    def value(self) -> float:
        return float(self.values.sum() / self.weights.sum())


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its interval, of `units` units."""

    value: float
    low: float
    high: float
    units: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the second model's figure is above the first's, with its interval, and the p of no difference."""

    value: float
    low: float
    high: float
    p: float


def share(hits: Sequence[bool]) -> Sample:
    return Sample(np.asarray(hits, dtype=np.float64), np.ones(len(hits)), is_share=True)


def mean(values: ArrayLike) -> Sample:
    array = np.asarray(values, dtype=np.float64)
    return Sample(array, np.ones(len(array)))


def figure(sample: Sample) -> Figure:
    """Wilson's interval (1927) for a share, else the percentile bootstrap over the units (Efron 1979)."""
    units = len(sample.values)
    if sample.is_share:
        low, high = stats.binomtest(int(sample.values.sum()), units).proportion_ci(0.95, "wilson")
    else:
        low, high = _interval(_resampled(sample))
    return Figure(sample.value, float(low), float(high), units)


def difference(first: Sample, second: Sample) -> Difference:
    """Paired: the units of both must be the same, in the same order.

    The interval is the paired bootstrap's. p is two-sided: for shares the exact McNemar test (1947), else the paired
    bootstrap's (Efron & Tibshirani 1993, section 16).
    """
    above = _resampled(second) - _resampled(first)  # the same draws, for they have the same seed
    low, high = _interval(above)
    if first.is_share:
        p = mcnemar(first, second)
    else:
        tail = min(np.mean(above <= 0), np.mean(above >= 0))
        p = min(1.0, 2 * max(float(tail), 1 / _RESAMPLES))
    return Difference(second.value - first.value, low, high, p)


def mcnemar(first: Sample, second: Sample) -> float:
    """Two-sided exact p of two shares on the same units being equal."""
    lost = int(np.sum(first.values > second.values))
    won = int(np.sum(first.values < second.values))
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _resampled(sample: Sample) -> NDArray[np.float64]:
    """(_RESAMPLES,) values of the figure on units drawn with replacement."""
    units = len(sample.values)
    draws = np.random.default_rng(_SEED).integers(units, size=(_RESAMPLES, units))
    return sample.values[draws].sum(1) / sample.weights[draws].sum(1)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
