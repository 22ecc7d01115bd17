"""Metrics by model version."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_VERSIONS = 256  # and outcomes whose series are kept at hand
_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)


class RolloutMetrics:
    """Created with the deployments, exposed once the service has a registry."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace="midfill", registry=None)

        self.completions = counter("version_completions", "Ended completions by version", "model_version", "outcome")
        self.seconds = Histogram(
            "version_completion_seconds",
            "Start to end of a computed completion by version",
            ["model_version"],
            namespace="midfill",
            registry=None,
            buckets=_SECONDS,
        )
        self.activations = counter("model_activations", "Attempts to change the active version", "result")
        self.rollbacks = counter("experiment_rollbacks", "Experiments that were ended by their limits", "reason")
        self.shadows = counter("shadow_completions", "Copies that a shadow computed, by agreement", "agreed")
        for reason in ("errors", "latency", "acceptance"):
            self.rollbacks.labels(reason=reason)
        for result in ("activated", "refused", "failed"):
            self.activations.labels(result=result)

    def finished(self, version: str, outcome: str, seconds: float | None) -> None:
        """Count one completion of a version; `seconds` where it was computed, and well."""
        key = version, outcome
        found = self._children.get(key)
        if found is None:  # looking labels up takes longer than counting
            if len(self._children) >= _VERSIONS:
                self._children.clear()
            labels = self.completions.labels(model_version=version, outcome=outcome)
            found = self._children[key] = labels, self.seconds.labels(model_version=version)
        found[0].inc()
        if seconds is not None:
            found[1].observe(seconds)

    def expose(self, registry: CollectorRegistry) -> None:
        """Show them on the page of `registry`."""
        for metric in (self.completions, self.seconds, self.activations, self.rollbacks, self.shadows):
            registry.register(metric)
