"""The state that all routes share: phase of life, admission, and the runs in progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from inference_service.api.errors import ApiError, unavailable
from inference_service.backends.base import ModelCard
from inference_service.guard.admission import Admission, Saturated
from inference_service.logs import log
from inference_service.metrics import Metrics
from inference_service.model.location import BadModel
from inference_service.registry.deployments import Deployments
from inference_service.settings import Settings, SettingsError
from inference_service.stores import Stores
from inference_service.tracing import tracing

if TYPE_CHECKING:
    from inference_service.api.run import Run

Phase = Literal["loading", "ready", "draining", "failed"]


class Service:
    """One per application. Used from its event loop only: each method is atomic between two awaits."""

    def __init__(self, settings: Settings, backend: Deployments) -> None:
        self.settings = settings
        self.backend = backend
        self.phase: Phase = "loading"
        self.leaving = False  # SIGTERM has come: not ready for load balancers, whatever the phase
        self.load_error: Exception | None = None
        self.loaded = asyncio.Event()  # set when the attempt to load is over, well or badly
        self.metrics = Metrics(self._gauges)
        self.tracing = tracing(settings.otlp_endpoint)
        self.admission = Admission(settings.max_queue, settings.max_reserved_tokens, settings.max_wait_s)
        self.stores = Stores(settings, self.metrics.registry)
        backend.metrics.expose(self.metrics.registry)
        backend.on_active = self._tell_active
        self._runs: dict[str, Run] = {}
        self._sessions: dict[str, Run] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def model_loaded(self) -> bool:
        """True once the backend has loaded and warmed up its model."""
        return self.loaded.is_set() and self.load_error is None

    @property
    def device(self) -> str:
        """Where the model runs; the setting as long as it is not loaded."""
        return str(self._info().get("device", self.settings.device))

    def _info(self) -> dict[str, Any]:
        return self.backend.info() if self.model_loaded else {}

    def _gauges(self) -> dict[str, float]:
        backend = self.backend.gauges() if self.model_loaded else {}
        reserved = {
            "reserved_tokens": float(self.admission.tokens),
            "predicted_wait_seconds": self.admission.predicted_wait_s,
        }
        return {**backend, **reserved}

    async def load(self) -> None:
        """Load the model. A failure is kept in `load_error` and makes the service unready for good."""
        try:
            await self.backend.start()
        except Exception as error:
            self.phase = "failed"
            self.load_error = error
            if not isinstance(error, (BadModel, SettingsError)):  # these say it all, and end the process
                log("model failed to load", level=logging.ERROR, exception=error)
        else:
            if self.phase == "loading":
                self.phase = "ready"
            card = self.backend.model
            self._tell_active(card)
            log("model loaded", model=card.name, version=card.version)
        self.loaded.set()

    def _tell_active(self, card: ModelCard) -> None:
        self.metrics.model_info.clear()
        self.metrics.model_info.labels(name=card.name, version=card.version).set(1)

    def refusal(self) -> ApiError | None:
        """Why no new completion can be taken now: 503 with Retry-After. None when one can."""
        if self.phase == "loading":
            return unavailable("loading", "the model is being loaded", 2)
        if self.phase == "failed":
            return unavailable("failed", "the model could not be loaded; see the service's log", 30)
        if self.phase == "draining":
            return _draining()
        fault = self.backend.fault()
        if fault:
            return unavailable("backend_unavailable", str(fault), fault.retry_after_s)
        try:
            self.admission.check()
        except Saturated as full:
            return unavailable("saturated", str(full), full.retry_after_s)
        return None

    def unreadiness(self) -> ApiError | None:
        """Why load balancers should send nothing more; None when they may."""
        return _draining() if self.leaving else self.refusal()

    def stalled_s(self) -> float:
        """Seconds for which the engine has had work and made no step, as far as the backend knows."""
        return self._gauges().get("engine_stalled_seconds", 0.0)

    def require_ready(self) -> None:
        """Raise `refusal()`, if any."""
        refusal = self.refusal()
        if refusal:
            raise refusal

    def admit(self, run: Run) -> None:
        """Reserve room for the run, all or none, and choose its version. Raises ApiError 503.

        Newest wins: the run ends an older one of its session, whatever computes it and wherever it is.
        """
        self.require_ready()
        try:
            run.reservation = self.admission.reserve(run.slots, *run.cost(self.backend.model.context_length))
        except Saturated as full:
            raise unavailable("saturated", str(full), full.retry_after_s) from None
        self._runs[run.id] = run
        run.deployment = self.backend.choose(run.first)
        run.deployment.acquire()
        if run.session:
            older = self._sessions.pop(run.session, None)
            self._sessions[run.session] = run
            if older:
                older.supersede()
        self._idle.clear()
        self.metrics.active_requests.set(len(self._runs))

    def release(self, run: Run) -> None:
        """Give the run's room back."""
        self.admission.release(run.reservation)
        del self._runs[run.id]
        run.deployment.release()
        if run.session and self._sessions.get(run.session) is run:
            del self._sessions[run.session]
        self.metrics.active_requests.set(len(self._runs))
        if not self._runs:
            self._idle.set()

    def cancel(self, completion_id: str) -> bool:
        """End a run with `finish_reason` "cancelled"; False when it is not in progress (any more)."""
        run = self._runs.get(completion_id)
        return run is not None and run.cancel()

    async def drain(self, on_idle: Callable[[], None]) -> None:
        """Not ready from now on; after `drain_wait_s` refuse new work, let what is in flight finish within
        `drain_s`, end the rest, call `on_idle`.
        """
        self.leaving = True
        await asyncio.sleep(self.settings.drain_wait_s)
        self.phase = "draining"
        log("draining", in_flight=len(self._runs))
        if not await self._wait_idle(self.settings.drain_s):
            await self.end_runs()
        on_idle()

    async def end_runs(self) -> None:
        """End what is still running with `finish_reason` "shutdown"; the answers get a moment to leave."""
        log("ending work in flight", in_flight=len(self._runs))
        for run in list(self._runs.values()):
            run.shut_down()
        await self._wait_idle(2.0)

    async def _wait_idle(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self._idle.is_set()


def _draining() -> ApiError:
    return unavailable("draining", "the service is shutting down", 2)
