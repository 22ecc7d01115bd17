"""Writes docs/metrics.md from the metrics of a service that has loaded its model. Run it after a change of metrics;
tests/docs/test_metrics.py notices when it was forgotten.

    python -m tools.metrics_docs
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.backends.upstream import UpstreamBackend
from inference_service.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

_INTRO = """# Metrics

Written by `tools/metrics_docs.py` from a service with a database and its model loaded. Every service exports them at
`/metrics`, in Prometheus's text format or, where the scraper accepts it, OpenMetrics with the traces of examples; a key
needs the scope `metrics`. Nothing is labelled with users, teams, keys, paths or code.

A histogram NAME is `NAME_bucket`, `NAME_sum` and `NAME_count`, a summary the latter two. Names of vLLM stand for the
same thing here. [Rules](../deploy/monitoring/rules) and [dashboards](../deploy/monitoring/dashboards) use them;
[operations.md](operations.md) says how.

"""
# what the backend reports has no text of its own
_MEANINGS = {
    "aborted": "Completions that nobody waited for any more, by what they were at",
    "engine_stalled_seconds": "How long an engine that has work has made no step",
    "kv_cache_usage_ratio": "Share of the KV cache that running requests hold; what is only remembered does not count",
    "mbu_ratio": "Bytes of weights and cache read, over what the memory could deliver; 0 where that is not known",
    "num_requests_running": "Completions in the batch",
    "num_requests_waiting": "Completions that wait for the engine",
    "predicted_wait_seconds": "How long a new request would wait for its first token",
    "preemptions": "Requests pushed out of the KV cache, to be computed again",
    "reserved_tokens": "Estimated tokens of all admitted requests",
    "response_cache_bytes": "Memory of answers to give again",
    "response_cache_faults": "Times that Redis failed the response cache",
    "response_cache_hits": "Repeatable requests answered from it",
    "response_cache_queries": "Repeatable requests looked up",
    "response_cache_redis_up": "1 while the shared part is used; 0 also without Redis",
    "response_cache_typed_hits": "Those of them whose user had typed on",
    "spec_accepted_length": "Guessed tokens that came true, by guess",
    "step_device_seconds": "Computing of a step",
    "step_host_seconds": "Scheduling and text of a step",
    "upstream_faults": "Failed requests to the other server; with `--upstream` only",
    "upstream_up": "1 while the other server answers; with `--upstream` only",
    "wasted_tokens": "Tokens computed for nobody",
}


def page() -> str:
    """The text of docs/metrics.md."""
    rows = {name: (kind, labels, text) for name, kind, labels, text in _of_a_service()}
    for reported in UpstreamBackend("http://127.0.0.1:1").gauges():
        kind = "counter" if reported.endswith("_total") else "gauge"
        rows.setdefault(f"midfill_{reported}", (kind, "", _MEANINGS.get(reported.removesuffix("_total"), "")))
    text = _INTRO + "| metric | kind | labels | meaning |\n|---|---|---|---|\n"
    for name, (kind, labels, meaning) in sorted(rows.items()):
        text += f"| `{name}` | {kind} | {labels} | {meaning} |\n"
    return text


def _of_a_service() -> Iterator[tuple[str, str, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database=f"sqlite:///{folder}/midfill.sqlite", spool_dir=f"{folder}/spool", threads=1)
        app = create_app(settings, LocalBackend(settings.model, threads=1))
        with TestClient(app):
            while not app.state.service.model_loaded:
                time.sleep(0.05)
            yield from _families(app.state.service.metrics.registry)


def _families(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    known = {}
    for collector in registry._collector_to_names:  # the public way has the labels of those with samples only
        for family in collector.describe():
            known[family.name] = collector._labelnames
    for family in registry.collect():
        name = family.name.removeprefix("midfill_")
        found = known.get(family.name) or {key for sample in family.samples for key in sample.labels if key != "le"}
        labels = ", ".join(f"`{label}`" for label in sorted(found))
        meaning = _MEANINGS.get(name) or family.documentation
        if meaning.endswith("as the backend reports it"):
            raise SystemExit(f"tools/metrics_docs.py has no meaning for {name}")
        yield family.name + ("_total" if family.type == "counter" else ""), family.type, labels, meaning


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
