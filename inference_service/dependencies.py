"""What the service leans on and can do without for a while: Redis, the database. Said once, in three places."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Gauge

from inference_service.logs import log


class Dependencies:
    """Keeps what is out of order: for `/readyz`, for the metric `dependency_up`, and for the log at each change.

    May be told from any thread.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._problems: dict[str, str] = {}
        self._up = Gauge(
            "dependency_up",
            "1 while a dependency answers, 0 while the service does without it",
            ["dependency"],
            namespace="midfill",
            registry=registry,
        )

    def report(self, name: str, problem: str | None) -> None:
        """`problem` says what is the matter and what that means for users; None when all is well."""
        before = self._problems.get(name)
        if problem is None:
            self._problems.pop(name, None)
        else:
            self._problems[name] = problem
        self._up.labels(dependency=name).set(problem is None)
        if problem is not None and problem != before:
            log("dependency lost", level=logging.WARNING, dependency=name, problem=problem)
        elif problem is None and before is not None:
            log("dependency is back", dependency=name)

    @property
    def degraded(self) -> dict[str, str]:
        """Name and problem of what is out of order."""
        return dict(self._problems)
