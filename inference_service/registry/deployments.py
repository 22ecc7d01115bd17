"""The versions that are loaded, which one serves whom, and how that changes without a lost request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from cachetools import LRUCache

from inference_service.backends.base import Backend, BackendUnavailable, ModelCard
from inference_service.engine.request import Chunk, CompletionRequest
from inference_service.logs import log
from inference_service.model.location import BadModel
from inference_service.registry.deployment import BASE, Deployment, Outcome
from inference_service.registry.errors import Conflict, ModelRefused, RolloutFault, UnknownVersion
from inference_service.registry.experiment import Experiment, Trial
from inference_service.registry.metrics import RolloutMetrics
from inference_service.registry.shadow import Shadow
from inference_service.registry.source import Source
from inference_service.registry.state import State

_FOLLOW_S = 5.0  # between two looks at what another replica decided
_REMEMBERED = 20_000  # completions whose events can still be told apart by version


@dataclasses.dataclass(slots=True)
class _Seen:
    of_candidate: bool
    events: set[str] = dataclasses.field(default_factory=set)


class Deployments:
    """A Backend that is several: the active version, the one before it, and perhaps a candidate.

    `first` is the model that the settings name, `source` has all others; without it nothing can be changed. Used
    from one event loop. A version is swapped between two awaits, so a request sees the one or the other.
    """

    def __init__(self, first: Backend, source: Source | None = None, name: str = "") -> None:
        self.metrics = RolloutMetrics()
        self.on_active: Callable[[ModelCard], None] = lambda _: None
        self.last_rollback: dict[str, Any] | None = None
        self.trial: Trial | None = None
        self._source, self._name = source, name
        self._active = self._first = Deployment(first, BASE, self._finished)
        self._candidate: Deployment | None = None
        self._alive: list[Deployment] = []
        self._retiring: list[Deployment] = []
        self._state = State()
        self._withdrawn: Experiment | None = None
        self._changing = False
        self._seen: LRUCache[str, _Seen] = LRUCache(_REMEMBERED)
        self._shadow = Shadow(self._compared, self._skipped)
        self._tasks: set[asyncio.Task[None]] = set()

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
        values = self._active.backend.gauges()
        for other in (*self._alive, *self._retiring):
            if other is not self._active:
                found = other.backend.gauges()
                for key in ("num_requests_running", "num_requests_waiting"):
                    values[key] = values.get(key, 0) + found.get(key, 0)
        return values

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
                self._active = await self._bring_up(reference)
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
                self._background(self._resume(experiment))
            self._background(self._follow())

    async def stop(self) -> None:
        self._shadow.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for deployment in (*self._alive, *self._retiring):
            await deployment.backend.stop()

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """For callers that send one request at a time; who sends several that belong together takes `choose`."""
        deployment = self.choose(request.session)
        deployment.acquire()
        try:
            async with contextlib.aclosing(deployment.complete(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            deployment.release()

    def cancel(self, completion_id: str) -> bool:
        return any(deployment.cancel(completion_id) for deployment in self._alive)

    # Who gets which version

    def choose(self, session: str | None) -> Deployment:
        """The version that answers this session; without a session the active one."""
        trial = self.trial
        if trial and self._candidate and session and trial.experiment.kind == "canary":
            return self._candidate if trial.experiment.includes(session) else self._active
        return self._active

    def arm(self, deployment: Deployment) -> str:
        """In which arm of a canary experiment a deployment answers: "canary", "control", or "" without one."""
        if self.trial is None or self.trial.experiment.kind != "canary":
            return ""
        return "canary" if deployment is self._candidate else "control"

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
            candidate = self._candidate or await self._bring_up(experiment.version)
            try:
                await self._write(dataclasses.replace(self._state, experiment=experiment))
            except BaseException:
                self._retire_unused()
                raise
            self._withdrawn = None
            self._try(experiment, candidate)

    async def end(self) -> None:
        """End the experiment; nothing happens when there is none. Raises Conflict, RolloutFault."""
        if self.trial is None:
            return
        async with self._change():
            await self._write(dataclasses.replace(self._state, experiment=None))
            self._withdraw()

    async def listing(self) -> dict[str, Any]:
        """What is loaded and what could be. Raises RolloutFault."""
        active, previous, candidate = self._active, self._state.previous, self._candidate
        known: dict[str, dict[str, Any]] = {}
        base = self._first.backend.model.version if self._first in self._alive else None
        known[BASE] = {"version": BASE, "content": base, "folder": None, "problem": None}
        for model in await self._source.list() if self._source else []:
            known[model.version or model.folder] = {
                "version": model.version or None,
                "content": model.version or None,
                "folder": model.folder.rsplit("/", 1)[-1],
                "problem": model.problem,
            }
        loaded = {deployment.reference for deployment in self._alive}
        for reference, entry in known.items():
            entry["loaded"] = reference in loaded
            entry["role"] = (
                "active"
                if reference == active.reference
                else "candidate"
                if candidate and reference == candidate.reference
                else "previous"
                if reference == previous
                else None
            )
        return {
            "model": self._name,
            "active": self.model.version,
            "previous": previous,
            "models": list(known.values()),
        }

    # Below: how

    async def _take_over(self, reference: str) -> None:
        if reference in (self._active.reference, self.model.version):
            return
        async with self._change():
            new = self._loaded(reference) or await self._bring_up(reference)
            try:
                await self._write(State(new.reference, self._active.reference))
            except BaseException:
                self._retire_unused()
                raise
            self._swap(new)

    def _swap(self, new: Deployment) -> None:
        self._withdraw(keep=new)
        self._active = new
        self.metrics.activations.labels(result="activated").inc()
        self.on_active(new.model)
        log("version activated", version=new.model.version, previous=self._state.previous)
        self._retire_unused()

    def _try(self, experiment: Experiment, candidate: Deployment) -> None:
        if self.trial:
            self.trial.experiment = experiment
        else:
            self.trial = Trial(experiment)
            self._seen.clear()
        self._candidate = candidate
        log("experiment", version=experiment.version, kind=experiment.kind, percent=experiment.percent)

    def _withdraw(self, keep: Deployment | None = None) -> None:
        self.trial = None
        if self._candidate is not None:
            self._candidate = None
            self._retire_unused(keep)

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

    async def _bring_up(self, reference: str) -> Deployment:
        if reference == BASE:
            backend = self._first.backend
            await backend.start()
            deployment = self._first
        else:
            assert self._source is not None, "only BASE is known without a source"
            backend = await self._source.bring_up(reference)
            deployment = Deployment(backend, reference, self._finished)
        deployment.name = self._name
        self._alive.append(deployment)
        return deployment

    def _loaded(self, reference: str) -> Deployment | None:
        return next((d for d in self._alive if reference in (d.reference, d.model.version)), None)

    def _retire_unused(self, keep: Deployment | None = None) -> None:
        """Stop, as soon as nobody uses them, the deployments that have no role any more."""
        for deployment in list(self._alive):
            roles = (self._active, self._candidate, keep)
            if deployment not in roles and deployment.reference != self._state.previous:
                self._alive.remove(deployment)
                self._background(self._retire(deployment))

    async def _retire(self, deployment: Deployment) -> None:
        self._retiring.append(deployment)
        await deployment.retired()
        self._retiring.remove(deployment)

    async def _write(self, state: State) -> None:
        assert self._source is not None
        await self._source.write_state(state.to_json())
        self._state = state

    # What came of completions

    def _finished(self, deployment: Deployment, outcome: Outcome) -> None:
        version = deployment.model.version
        computed = outcome.reason != "error" and outcome.computed
        self.metrics.finished(version, outcome.reason, outcome.seconds if computed else None)
        trial, candidate = self.trial, self._candidate
        if trial is None or candidate is None or deployment not in (candidate, self._active):
            return
        of_candidate = deployment is candidate
        if outcome.reason == "error":
            trial.failed(of_candidate)
        elif outcome.computed:
            trial.finished(of_candidate, outcome.seconds)
            session = outcome.request.session
            if trial.experiment.kind == "canary":
                self._seen[outcome.request.id] = _Seen(of_candidate)
            elif not of_candidate and session and trial.experiment.includes(session):
                self._shadow.copy(outcome, candidate)
        self._judge()

    def _judge(self) -> None:
        trial = self.trial
        reason = trial.verdict() if trial else None
        if trial is None or reason is None:
            return
        self.last_rollback = {"reason": reason, **trial.to_json()}
        self._withdrawn = trial.experiment
        self.metrics.rollbacks.labels(reason=reason).inc()
        log("experiment rolled back", level=logging.ERROR, reason=reason, version=trial.experiment.version)
        self._withdraw()
        self._state = dataclasses.replace(self._state, experiment=None)
        self._background(self._keep_state())

    def _compared(self, same: bool) -> None:
        self.metrics.shadows.labels(agreed=str(same).lower()).inc()
        if self.trial:
            self.trial.compared += 1
            self.trial.agreed += same

    def _skipped(self) -> None:
        if self.trial:
            self.trial.skipped += 1

    # In the background

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
        while True:
            await asyncio.sleep(_FOLLOW_S)
            before = self._state
            try:
                wanted = State.from_json(await self._source.read_state())
            except RolloutFault as error:
                log("roll-out state not read", level=logging.WARNING, reason=str(error))
                continue
            if wanted in (before, failed) or self._state != before or self._changing:
                continue
            try:
                await self._reconcile(wanted)
                failed = None
            except (UnknownVersion, Conflict, ModelRefused, RolloutFault):
                failed = wanted  # told by _change; not tried again before something else is wanted

    async def _reconcile(self, wanted: State) -> None:
        async with self._change():
            if wanted.active != self._active.reference:
                new = self._loaded(wanted.active) or await self._bring_up(wanted.active)
                self._state = wanted
                self._swap(new)
            experiment = wanted.experiment
            if experiment is None or experiment == self._withdrawn:
                self._withdraw()
            else:
                candidate = self._candidate
                if candidate is None or candidate.reference != experiment.version:
                    self._withdraw()
                    candidate = self._loaded(experiment.version) or await self._bring_up(experiment.version)
                self._try(experiment, candidate)
            self._state = wanted
            self._retire_unused()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
