"""Prometheus metrics of one application; vLLM's names where the concept is the same, for its dashboards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from inference_service.engine.request import Stats

NAMESPACE = "midfill"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)


class Metrics:
    """Counters that the HTTP side keeps, beside the instant values that the backend reports at each scrape.

    `gauges` returns the backend's values by name without the namespace; a name ending in `_total` is exposed
    as a counter, NAME_sum with NAME_count as a summary, and NAME{label="value"} with its label. A name that is kept
    here as well is left out.
    """

    def __init__(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        # The "_created" twin of each counter doubles the page and carries nothing that a scraper uses.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP requests, without probes, by status code", "status")
        self._by_status: dict[int, Counter] = {}
        self.active_requests = Gauge(
            "active_requests", "Admitted requests in progress", namespace=NAMESPACE, registry=self.registry
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens")
        self.cache_queries = self._counter("prefix_cache_queries", "Prompt tokens looked up in the cache")
        self.cache_hits = self._counter("prefix_cache_hits", "Prompt tokens found in the cache")
        self.first_token = self._histogram("time_to_first_token_seconds", "Receipt to first token")
        self.inter_token = self._histogram("inter_token_latency_seconds", "Between tokens of a completion")
        self.e2e = self._histogram("e2e_request_latency_seconds", "Receipt to last token")
        self.queue_time = self._histogram("request_queue_time_seconds", "Time waiting for the engine")
        self.superseded = self._counter("superseded", "Completions ended by a newer one of their session")
        # counted where requests end; an engine, which knows what it computed for whom, counts these itself
        self.aborted = Counter("aborted", "Completions nobody waits for any more", ["stage"], NAMESPACE, registry=None)
        self.wasted_tokens = Counter("wasted_tokens", "Tokens computed for nobody", (), NAMESPACE, registry=None)
        self.deadline_partial = self._counter("deadline_partial", "Completions cut at their deadline")
        self.model_info = Gauge(
            "model_info", "The served model", ["name", "version"], namespace=NAMESPACE, registry=self.registry
        )
        # a series that exists from the start has a rate from the start
        for stage in ("waiting", "decode"):
            self.aborted.labels(stage=stage)
        for status in (200, 429, 500, 503):
            self.requests.labels(status=str(status))
        own = {name for family in self.registry.collect() for name in (family.name, f"{family.name}_total")}
        self.registry.register(_BackendCollector(gauges, own, (self.aborted, self.wasted_tokens)))

    def answered(self, status: int) -> None:
        """Count one HTTP request."""
        child = self._by_status.get(status)
        if child is None:  # looking a label up takes longer than counting
            child = self._by_status[status] = self.requests.labels(status=str(status))
        child.inc()

    def record(self, stats: Stats) -> None:
        """Account one finished completion."""
        self.prompt_tokens.inc(stats.prompt_tokens)
        self.generation_tokens.inc(stats.completion_tokens)
        self.cache_queries.inc(stats.prompt_tokens)
        self.cache_hits.inc(stats.cached_tokens)
        self.queue_time.observe(stats.queue_ms / 1000)

    def emitted(self, before: float | None, now: float, tokens: int) -> None:
        """Account `tokens` that came together at `now`, after others at `before`; `time.monotonic()` seconds."""
        if before is not None:
            for _ in range(tokens):
                self.inter_token.observe((now - before) / tokens)

    def render(self) -> bytes:
        """The page for Prometheus, text format 0.0.4."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """The page in OpenMetrics' format, which has exemplars."""
        return openmetrics.generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, namespace=NAMESPACE, registry=self.registry, buckets=_SECONDS)


class _BackendCollector(Collector):
    def __init__(
        self, gauges: Callable[[], Mapping[str, float]], own: set[str], substitutes: Sequence[Counter]
    ) -> None:
        self._gauges, self._own, self._substitutes = gauges, own, substitutes

    def collect(self) -> Iterable[Metric]:
        values = {"num_requests_running": 0.0, "num_requests_waiting": 0.0, **self._gauges()}
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for full_name, value in sorted(values.items()):
            name, _, labels = full_name.partition("{")
            full = f"{NAMESPACE}_{name}"
            if full in self._own or name.endswith("_count"):
                continue
            text = f"{name.replace('_', ' ')}, as the backend reports it"
            if name.endswith("_sum"):
                base = name.removesuffix("_sum")
                yield SummaryMetricFamily(f"{NAMESPACE}_{base}", text, int(values[f"{base}_count"]), value)
                continue
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            pairs = dict(_LABEL.findall(labels))
            family = families.setdefault(name, kind(full.removesuffix("_total"), text, labels=list(pairs)))
            family.add_metric(list(pairs.values()), value)
        yield from families.values()
        counted = {family.name for family in families.values()}
        yield from (family for one in self._substitutes for family in one.collect() if family.name not in counted)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known only once the backend runs."""
        return ()
