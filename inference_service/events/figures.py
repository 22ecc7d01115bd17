"""Prometheus metrics of what became of completions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge

NAMESPACE = "midfill"
_ACCEPTANCE = ("accepted", "partially_accepted")


class Made(NamedTuple):
    """What is remembered of a completion, to count its events by."""

    model_version: str
    language: str
    chars: int


UNKNOWN = Made("unknown", "", 0)


class Evaluation(NamedTuple):
    """An exact match of held-out lines. `at` in seconds since 1970; an alert goes off below `floor`."""

    model_version: str
    ratio: float
    floor: float
    at: float


class Figures:
    """The acceptance rate of a week by language, for one, is
    `sum by (language) (increase(midfill_completion_events_total{event=~"accepted|partially_accepted"}[7d]))`
    over the same of `event="shown"`.
    """

    def __init__(self, registry: CollectorRegistry, spooled_bytes: Callable[[], float] | None) -> None:
        labels = ["model_version", "language"]
        self._events = Counter(
            "completion_events",
            "What became of completions in the editor",
            ["event", *labels],
            namespace=NAMESPACE,
            registry=registry,
        )
        self._accepted_chars = Counter(
            "accepted_chars", "Characters accepted in the editor", labels, namespace=NAMESPACE, registry=registry
        )
        if spooled_bytes is None:
            return
        self.dropped = Counter(
            "completion_records_dropped",
            "Completions that could not be recorded because the spool was full",
            namespace=NAMESPACE,
            registry=registry,
        )
        spooled = Gauge(
            "event_spool_bytes", "Records that wait for the database", namespace=NAMESPACE, registry=registry
        )
        spooled.set_function(spooled_bytes)
        self._ratio = self._of_evaluation(registry, "ratio", "Held-out lines that the model completes exactly")
        self._floor = self._of_evaluation(registry, "floor", "The ratio below which somebody should look")
        self._evaluated = self._of_evaluation(registry, "timestamp_seconds", "When it was evaluated last")

    def count(self, event: str, made: Made, new_chars: int) -> None:
        """One event; `new_chars` of the completion were accepted that had not been before."""
        self._events.labels(event, made.model_version, made.language).inc()
        if event in _ACCEPTANCE:
            self._accepted_chars.labels(made.model_version, made.language).inc(new_chars)

    def show(self, evaluations: Iterable[Evaluation]) -> None:
        """The newest evaluation of each version."""
        for item in evaluations:
            self._ratio.labels(item.model_version).set(item.ratio)
            self._floor.labels(item.model_version).set(item.floor)
            self._evaluated.labels(item.model_version).set(item.at)

    @staticmethod
    def _of_evaluation(registry: CollectorRegistry, name: str, text: str) -> Gauge:
        return Gauge(f"live_exact_match_{name}", text, ["model_version"], namespace=NAMESPACE, registry=registry)
