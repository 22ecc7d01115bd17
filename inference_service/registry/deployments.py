"""The versions that are loaded, which one serves whom, and how that changes without a lost request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from inference_service.backends.base import Backend, BackendUnavailable, ModelCard
from inference_service.engine.request import Chunk, CompletionRequest
from inference_service.logs import log
from inference_service.model.location import BadModel
from inference_service.registry.deployment import BASE, Deployment, Outcome
from inference_service.registry.errors import Conflict, ModelRefused, RolloutFault, UnknownVersion
from inference_service.registry.experiment import Experiment, Trial
from inference_service.registry.fleet import Fleet
from inference_service.registry.listing import entries
from inference_service.registry.metrics import RolloutMetrics
from inference_service.registry.on_trial import OnTrial
from inference_service.registry.source import Source
from inference_service.registry.state import State
from inference_service.registry.tasks import Tasks

_FOLLOW_S = 5.0  # between two looks at what another replica decided
_AGAIN_S = 60.0  # until what failed is tried once more: loading takes memory and time from those who are served


class Deployments:
    """A Backend that is several: the active version, the one before it, and perhaps a candidate.

    `first` is the model that the settings name, `source` has all others; without it nothing can be changed. Used
    from one event loop. A version is swapped between two awaits, so a request sees the one or the other.
    """

    def __init__(self, first: Backend, source: Source | None = None, name: str = "") -> None:
        self.metrics = RolloutMetrics()
        self.on_active: Callable[[ModelCard], None] = lambda _: None
        self._source, self._name = source, name
        self._tasks = Tasks()
        self._fleet = Fleet(first, source, self._tasks, self._finished)
        self._active = self._fleet.first
        self._on_trial = OnTrial(self.metrics, self._rolled_back)
        self._state = State()
        self._changing = False

    # As a Backend

    @property
    def model(self) -> ModelCard:
        return self._active.model

    def info(self) -> dict[str, Any]:
        return self._active.backend.info()

    def fault(self) -> BackendUnavailable | None:
        """Why nothing can be computed now, None when it can."""
        return self._active.fault()

    def gauges(self) -> dict[str, float]:
        """The active version's; what runs and waits is counted over all."""
        return self._fleet.gauges(self._active)

    async def start(self) -> None:
        """Start what was active last; where that is not possible any more, the one before it or the first one."""
        if self._source is not None:
            try:
                self._state = State.from_json(await self._source.read_state())
            except RolloutFault as error:
                log("roll-out state not read", level=logging.ERROR, reason=str(error))
        for reference in dict.fromkeys((self._state.active, self._state.previous, BASE)):
            if reference is None:
                continue
            try:
                self._active = await self._fleet.bring_up(reference, self._name)
                break
            except Exception as error:
                if reference == BASE:
                    raise
                log("version not started", level=logging.ERROR, exception=error, version=reference)
        self._name = self._active.name = self._name or self._active.backend.model.name
        if self._source is not None:
            experiment = self._state.experiment
            self._state = dataclasses.replace(self._state, active=self._active.reference, experiment=None)
            if experiment:
                self._tasks.start(self._resume(experiment))
            self._tasks.start(self._follow())

    async def stop(self) -> None:
        self._on_trial.stop()
        await self._tasks.stop()
        await self._fleet.stop()

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """For callers that send one request at a time; who sends several that belong together takes `choose`."""
        deployment = self.choose(request)
        deployment.acquire()
        try:
            async with contextlib.aclosing(deployment.complete(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            deployment.release()

    def cancel(self, completion_id: str) -> bool:
        return self._fleet.cancel(completion_id)

    # Who gets which version

    @property
    def trial(self) -> Trial | None:
        """The running experiment."""
        return self._on_trial.trial

    @property
    def last_rollback(self) -> dict[str, Any] | None:
        """The last experiment that its limits have ended."""
        return self._on_trial.last_rollback

    def choose(self, request: CompletionRequest) -> Deployment:
        """The version that answers a request, and those that belong with it."""
        return self._on_trial.choose(self._active, request)

    def arm(self, deployment: Deployment) -> str:
        """In which arm of a canary experiment a deployment answers: "canary", "control", or "" without one."""
        return self._on_trial.arm(deployment)

    def event(self, completion_id: str, event: str) -> None:
        """What became of a completion in the editor."""
        self._on_trial.event(completion_id, event)

    def _finished(self, deployment: Deployment, outcome: Outcome) -> None:
        computed = outcome.reason != "error" and outcome.computed
        self.metrics.finished(deployment.model.version, outcome.reason, outcome.seconds if computed else None)
        self._on_trial.finished(deployment, self._active, outcome)

    # What the operator does

    async def activate(self, version: str) -> None:
        """Bring `version` up beside the active one and let it take over; the active one stays as the previous.

        Raises UnknownVersion, Conflict, ModelRefused, RolloutFault; whatever it raises, the active one serves on.
        """
        if self.trial and version != self.trial.experiment.version:
            running = self.trial.experiment.version
            raise Conflict(f"an experiment with version {running} is running: end it, or activate its version")
        await self._take_over(version)

    async def rollback(self) -> None:
        """Back to the previous version, which usually is still loaded. Ends an experiment. Raises like `activate`."""
        if self._state.previous is None:
            raise Conflict("there is no previous version to go back to")
        await self._take_over(self._state.previous)

    async def begin(self, experiment: Experiment) -> None:
        """Start an experiment, or change the share and limits of the running one. Raises like `activate`."""
        if self.trial and (self.trial.experiment.version, self.trial.experiment.kind) != (
            experiment.version,
            experiment.kind,
        ):
            raise Conflict(f"an experiment with version {self.trial.experiment.version} is running: end it first")
        if experiment.version in (self._active.reference, self.model.version):
            raise Conflict(f"version {experiment.version} is the active one already")
        async with self._change():
            candidate = self._on_trial.candidate or await self._get(experiment.version)
            try:
                await self._write(dataclasses.replace(self._state, experiment=experiment))
            except BaseException:
                self._retire_unused()
                raise
            self._on_trial.withdrawn = None
            self._on_trial.begin(experiment, candidate)

    async def end(self) -> None:
        """End the experiment; nothing happens when there is none. Raises Conflict, RolloutFault."""
        if self.trial is None:
            return
        async with self._change():
            await self._write(dataclasses.replace(self._state, experiment=None))
            self._on_trial.end()
            self._retire_unused()

    async def listing(self) -> dict[str, Any]:
        """What is loaded and what could be. Raises RolloutFault."""
        stored = await self._source.list() if self._source else []
        roles = {BASE: None} | dict.fromkeys(filter(None, [self._state.previous]), "previous")
        if self._on_trial.candidate:
            roles[self._on_trial.candidate.reference] = "candidate"
        roles[self._active.reference] = "active"
        first = self._fleet.first
        base = first.backend.model.version if first in self._fleet.alive else None
        return {
            "model": self._name,
            "active": self.model.version,
            "previous": self._state.previous,
            "models": entries(stored, base, {one.reference for one in self._fleet.alive}, roles),
        }

    # Below: how

    async def _take_over(self, reference: str) -> None:
        if reference in (self._active.reference, self.model.version):
            return
        async with self._change():
            new = await self._get(reference)
            try:
                await self._write(State(new.reference, self._active.reference))
            except BaseException:
                self._retire_unused()
                raise
            self._swap(new)

    def _swap(self, new: Deployment) -> None:
        self._on_trial.end()
        self._active = new
        self.metrics.activations.labels(result="activated").inc()
        self.on_active(new.model)
        log("version activated", version=new.model.version, previous=self._state.previous)
        self._retire_unused()

    async def _get(self, reference: str) -> Deployment:
        return self._fleet.find(reference) or await self._fleet.bring_up(reference, self._name)

    def _retire_unused(self) -> None:
        self._fleet.keep((self._active, self._on_trial.candidate), self._state.previous)

    @contextlib.asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change at a time; failures are counted and told, and leave everything as it was."""
        if self._source is None:
            raise Conflict("versions cannot be changed: start the service with --models FOLDER_OR_URL")
        if self._changing:
            raise Conflict("another activation is in progress; try again when it is over")
        self._changing = True
        try:
            yield
        except (UnknownVersion, ModelRefused, BadModel) as error:
            self.metrics.activations.labels(result="refused").inc()
            log("version refused", level=logging.ERROR, reason=str(error), serving=self.model.version)
            if isinstance(error, BadModel):
                raise ModelRefused(str(error)) from error
            raise
        except RolloutFault as error:
            self.metrics.activations.labels(result="failed").inc()
            log("roll-out failed", level=logging.ERROR, reason=str(error), serving=self.model.version)
            raise
        except Exception as error:  # memory, a kernel: whatever loading can run into
            self.metrics.activations.labels(result="failed").inc()
            log("roll-out failed", level=logging.ERROR, exception=error, serving=self.model.version)
            raise RolloutFault(
                f"the version could not be loaded ({type(error).__name__}); {self.model.version} serves on"
            ) from error
        finally:
            self._changing = False

    async def _write(self, state: State) -> None:
        assert self._source is not None
        await self._source.write_state(state.to_json())
        self._state = state

    # In the background

    def _rolled_back(self) -> None:
        self._retire_unused()
        self._state = dataclasses.replace(self._state, experiment=None)
        self._tasks.start(self._keep_state())

    async def _keep_state(self) -> None:
        assert self._source is not None
        try:
            await self._source.write_state(self._state.to_json())
        except RolloutFault as error:
            log("roll-out state not kept", level=logging.ERROR, reason=str(error))

    async def _resume(self, experiment: Experiment) -> None:
        with contextlib.suppress(UnknownVersion, Conflict, ModelRefused, RolloutFault):  # told by _change
            await self.begin(experiment)

    async def _follow(self) -> None:
        """Do what another replica was told, or what somebody wrote into the state by hand."""
        assert self._source is not None
        failed: State | None = None
        again_at = 0.0
        while True:
            await asyncio.sleep(_FOLLOW_S)
            before = self._state
            try:
                wanted = State.from_json(await self._source.read_state())
            except RolloutFault as error:
                log("roll-out state not read", level=logging.WARNING, reason=str(error))
                continue
            if wanted == before or self._state != before or self._changing:
                continue
            if wanted == failed and time.monotonic() < again_at:
                continue
            try:
                await self._reconcile(wanted)
                failed = None
            except (UnknownVersion, Conflict, ModelRefused):
                failed, again_at = wanted, math.inf  # told by _change; something else has to be wanted
            except RolloutFault:
                failed, again_at = wanted, time.monotonic() + _AGAIN_S

    async def _reconcile(self, wanted: State) -> None:
        async with self._change():
            if wanted.active != self._active.reference:
                new = await self._get(wanted.active)
                self._state = wanted
                self._swap(new)
            experiment = wanted.experiment
            if experiment is None or experiment == self._on_trial.withdrawn:
                self._on_trial.end()
            else:
                candidate = self._on_trial.candidate
                if candidate is None or candidate.reference != experiment.version:
                    self._on_trial.end()
                    self._retire_unused()
                    candidate = await self._get(experiment.version)
                self._on_trial.begin(experiment, candidate)
            self._state = wanted
            self._retire_unused()
