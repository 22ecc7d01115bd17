"""The candidate that is being tried: who gets it, what its completions and events say, and when it has to go."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache

from inference_service.engine.request import CompletionRequest
from inference_service.logs import log
from inference_service.registry.deployment import Deployment, Outcome
from inference_service.registry.experiment import Experiment, Trial, subject
from inference_service.registry.metrics import RolloutMetrics
from inference_service.registry.shadow import Shadow

_REMEMBERED = 20_000  # completions whose events can still be told apart by version


@dataclasses.dataclass(slots=True)
class _Seen:
    of_candidate: bool
    events: set[str] = dataclasses.field(default_factory=set)


class OnTrial:
    """At most one experiment at a time. `on_rollback` is called when its limits have ended it."""

    def __init__(self, metrics: RolloutMetrics, on_rollback: Callable[[], None]) -> None:
        self.trial: Trial | None = None
        self.candidate: Deployment | None = None
        self.last_rollback: dict[str, Any] | None = None
        self.withdrawn: Experiment | None = None  # by its limits: not to be taken up again from the state
        self._metrics, self._on_rollback = metrics, on_rollback
        self._seen: LRUCache[str, _Seen] = LRUCache(_REMEMBERED)
        self._shadow = Shadow(self._compared, self._skipped)

    def begin(self, experiment: Experiment, candidate: Deployment) -> None:
        """Start it, or change share and limits of the running one."""
        if self.trial:
            self.trial.experiment = experiment
        else:
            self.trial = Trial(experiment)
            self._seen.clear()
        self.candidate = candidate
        log("experiment", version=experiment.version, kind=experiment.kind, percent=experiment.percent)

    def end(self) -> None:
        """Nobody gets the candidate any more."""
        self.trial = self.candidate = None

    def stop(self) -> None:
        """End the shadow's copies in progress."""
        self._shadow.stop()

    def choose(self, active: Deployment, request: CompletionRequest) -> Deployment:
        """The version that answers a request."""
        trial, candidate = self.trial, self.candidate
        if trial is None or candidate is None or trial.experiment.kind != "canary":
            return active
        return candidate if trial.experiment.includes(subject(request)) else active

    def arm(self, deployment: Deployment) -> str:
        """In which arm of a canary experiment a deployment answers: "canary", "control", or "" without one."""
        if self.trial is None or self.trial.experiment.kind != "canary":
            return ""
        return "canary" if deployment is self.candidate else "control"

    def event(self, completion_id: str, event: str) -> None:
        """Count what became of a completion in the editor; one of another replica counts for none of the arms."""
        seen = self._seen.get(completion_id)
        if seen is None or self.trial is None:
            return
        kind = "accepted" if event == "partially_accepted" else event
        if kind not in seen.events:
            seen.events.add(kind)
            self.trial.event(seen.of_candidate, kind)
            self._judge()

    def finished(self, deployment: Deployment, active: Deployment, outcome: Outcome) -> None:
        """A completion of any version has ended."""
        trial, candidate = self.trial, self.candidate
        if trial is None or candidate is None or deployment not in (candidate, active):
            return
        of_candidate = deployment is candidate
        if outcome.reason == "error":
            trial.failed(of_candidate)
        elif outcome.computed:
            trial.finished(of_candidate, outcome.seconds)
            if trial.experiment.kind == "canary":
                self._seen[outcome.request.id] = _Seen(of_candidate)
            elif not of_candidate and trial.experiment.includes(subject(outcome.request)):
                self._shadow.copy(outcome, candidate)
        self._judge()

    def _judge(self) -> None:
        trial = self.trial
        reason = trial.verdict() if trial else None
        if trial is None or reason is None:
            return
        self.last_rollback = {"reason": reason, **trial.to_json()}
        self.withdrawn = trial.experiment
        self._metrics.rollbacks.labels(reason=reason).inc()
        log("experiment rolled back", level=logging.ERROR, reason=reason, version=trial.experiment.version)
        self.end()
        self._on_rollback()

    def _compared(self, same: bool) -> None:
        self._metrics.shadows.labels(agreed=str(same).lower()).inc()
        if self.trial:
            self.trial.compared += 1
            self.trial.agreed += same

    def _skipped(self) -> None:
        if self.trial:
            self.trial.skipped += 1
