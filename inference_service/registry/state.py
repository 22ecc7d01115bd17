"""What the operator decided: kept in the store, and the same for every replica that shares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference_service.registry.deployment import BASE
from inference_service.registry.errors import RolloutFault
from inference_service.registry.experiment import Experiment


@dataclass(frozen=True, slots=True)
class State:
    """References of the active and the previous version (BASE or a registry's version), and the experiment."""

    active: str = BASE
    previous: str | None = None
    experiment: Experiment | None = None

    def to_json(self) -> dict[str, Any]:
        """For the store."""
        return {
            "active": self.active,
            "previous": self.previous,
            "experiment": self.experiment and self.experiment.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> State:
        """What `to_json` gave; the default for an empty object. Raises RolloutFault."""
        if not data:
            return cls()
        try:
            found = data.get("experiment")
            return cls(str(data["active"]), data.get("previous"), Experiment.from_json(found) if found else None)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RolloutFault(
                f"rollout.json is not understood ({type(error).__name__}): correct or remove it"
            ) from None
