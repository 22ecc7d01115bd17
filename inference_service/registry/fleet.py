"""The versions that are in memory: brought up, found again, and stopped once nobody uses them any more."""

from __future__ import annotations

from collections.abc import Callable, Collection

from inference_service.backends.base import Backend
from inference_service.registry.deployment import BASE, Deployment, Outcome
from inference_service.registry.source import Source
from inference_service.registry.tasks import Tasks


class Fleet:
    """`first` is the model that the settings name, `source` has all others. `on_finish` hears of every completion."""

    def __init__(
        self, first: Backend, source: Source | None, tasks: Tasks, on_finish: Callable[[Deployment, Outcome], None]
    ) -> None:
        self.first = Deployment(first, BASE, on_finish)
        self.alive: list[Deployment] = []
        self._retiring: list[Deployment] = []
        self._source, self._tasks, self._on_finish = source, tasks, on_finish

    async def bring_up(self, reference: str, name: str) -> Deployment:
        """Load, check and test a version, under the public `name`. Raises what loading it raises."""
        if reference == BASE:
            await self.first.backend.start()
            deployment = self.first
        else:
            assert self._source is not None, "only BASE is known without a source"
            deployment = Deployment(await self._source.bring_up(reference), reference, self._on_finish)
        deployment.name = name
        self.alive.append(deployment)
        return deployment

    def find(self, reference: str) -> Deployment | None:
        """The loaded deployment of a reference or version."""
        return next((one for one in self.alive if reference in (one.reference, one.model.version)), None)

    def keep(self, needed: Collection[Deployment | None], previous: str | None) -> None:
        """Stop all but the `needed` and the `previous` ones, as soon as nobody uses them."""
        for deployment in list(self.alive):
            if deployment not in needed and deployment.reference != previous:
                self.alive.remove(deployment)
                self._tasks.start(self._retire(deployment))

    def gauges(self, active: Deployment) -> dict[str, float]:
        """The active version's; what runs and waits is counted over all."""
        values = active.backend.gauges()
        for other in (*self.alive, *self._retiring):
            if other is not active:
                found = other.backend.gauges()
                for key in ("num_requests_running", "num_requests_waiting"):
                    values[key] = values.get(key, 0) + found.get(key, 0)
        return values

    def cancel(self, completion_id: str) -> bool:
        """As `Backend.cancel`, whichever version computes it."""
        return any(deployment.cancel(completion_id) for deployment in self.alive)

    async def stop(self) -> None:
        """Stop all of them."""
        for deployment in (*self.alive, *self._retiring):
            await deployment.backend.stop()

    async def _retire(self, deployment: Deployment) -> None:
        self._retiring.append(deployment)
        await deployment.retired()
        self._retiring.remove(deployment)
