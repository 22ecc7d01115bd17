"""An experiment: which version is tried on whom, and how it does."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from inference_service.engine.request import CompletionRequest
from inference_service.registry.statistics import Arm, Limits, verdict

_DEFAULT_LIMITS = Limits()
Kind = Literal["shadow", "canary"]
_RECOMPUTE = 20  # completions of the control between two looks at its 95th percentile


def subject(request: CompletionRequest) -> str:
    """Who or what is in or out as a whole: the document, else the user, else this request alone."""
    if request.session is not None:
        return request.session
    return f"user {request.tenant} {request.user}" if request.user else request.id


@dataclass(frozen=True, slots=True)
class Experiment:
    """`percent` of the sessions get the answers of `version` ("canary"), or are also computed by it ("shadow")."""

    version: str
    kind: Kind
    percent: float
    limits: Limits = _DEFAULT_LIMITS

    def includes(self, subject: str) -> bool:
        """Always the same for a subject, and one that is in stays in when `percent` rises."""
        digest = hashlib.sha256(f"{self.version}\0{subject}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 * 100 < self.percent

    def to_json(self) -> dict[str, Any]:
        """For the state file and for the API."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Experiment:
        """What `to_json` gave, or somebody wrote by hand. Raises KeyError, TypeError, ValueError, AttributeError."""
        limits = {name: type(getattr(_DEFAULT_LIMITS, name))(value) for name, value in data["limits"].items()}
        return cls(str(data["version"]), data["kind"], float(data["percent"]), Limits(**limits))


@dataclass(slots=True)
class Trial:
    """A running experiment and what was counted since it began in this process."""

    experiment: Experiment
    control: Arm = field(default_factory=Arm)
    candidate: Arm = field(default_factory=Arm)
    agreed: int = 0
    compared: int = 0
    skipped: int = 0  # copies that were not computed, because enough others were
    _p95: float | None = None
    _until: int = 0

    def finished(self, of_candidate: bool, seconds: float) -> None:
        """A good completion."""
        if of_candidate:
            limits = self.experiment.limits
            known = self._p95 is not None and self.control.completions >= limits.min_samples
            self.candidate.add(seconds, self._p95 * limits.max_latency_ratio if known and self._p95 else None)
            return
        self.control.add(seconds, None)
        if self.control.completions >= self._until:
            self._p95 = self.control.percentile(0.95)
            self._until = self.control.completions + _RECOMPUTE

    def failed(self, of_candidate: bool) -> None:
        """A completion that ended in a fault."""
        (self.candidate if of_candidate else self.control).fail()

    def event(self, of_candidate: bool, event: str) -> None:
        """What became of a completion in the editor."""
        arm = self.candidate if of_candidate else self.control
        arm.shown += event == "shown"
        arm.accepted += event in ("accepted", "partially_accepted")

    def verdict(self) -> str | None:
        """Why the candidate has to go; the answers of a shadow reach nobody, so nothing is wrong with them."""
        if self.experiment.kind == "shadow":
            return None
        return verdict(self.experiment.limits, self.control, self.candidate)

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            **self.experiment.to_json(),
            "control": _arm_json(self.control),
            "candidate": _arm_json(self.candidate),
            "agreement": self.agreed / self.compared if self.compared else None,
            "compared": self.compared,
            "skipped": self.skipped,
        }


def _arm_json(arm: Arm) -> dict[str, Any]:
    p50, p95 = arm.percentile(0.5), arm.percentile(0.95)
    return {
        "completions": arm.completions,
        "errors": arm.errors,
        "p50_ms": None if p50 is None else round(p50 * 1000, 2),
        "p95_ms": None if p95 is None else round(p95 * 1000, 2),
        "slow": arm.slow,
        "shown": arm.shown,
        "accepted": arm.accepted,
    }
