"""`/admin/models` and `/admin/experiments`: which version serves whom. Needs a key with the scope "admin"."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from inference_service.api.answers import Activated, ExperimentList, VersionList
from inference_service.api.body import parse, read_object
from inference_service.api.errors import ApiError, unavailable
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import BODY, says
from inference_service.api.routing import router as new_router
from inference_service.api.schemas import ExperimentBody
from inference_service.api.service import Service
from inference_service.registry.errors import Conflict, ModelRefused, RolloutFault, UnknownVersion
from inference_service.registry.experiment import Experiment
from inference_service.registry.statistics import Limits

_RETRY_AFTER_S = 10
# asyncio keeps only weak references, and a change goes on when whoever asked for it hangs up
_changes: set[asyncio.Task[None]] = set()

router = new_router()


@router.get("/admin/models", **says(VersionList, errors=(503,)))
async def list_models(request: Request) -> Response:
    """Every version that is loaded or stored, with its role and what is known against it."""
    service = _service(request)
    try:
        return JsonResponse(await service.backend.listing())
    except RolloutFault as error:
        raise _answer_to(error) from None


@router.post("/admin/models/{version}/activate", **says(Activated, errors=(404, 409, 503)))
async def activate(request: Request) -> Response:
    """Load, check and test a version, then let it serve; until then, and whatever goes wrong, the old one does."""
    service = _service(request)
    return await _changed(service, service.backend.activate(request.path_params["version"]))


@router.post("/admin/models/rollback", **says(Activated, errors=(404, 409, 503)))
async def rollback(request: Request) -> Response:
    """Back to the version before; ends an experiment."""
    service = _service(request)
    return await _changed(service, service.backend.rollback())


@router.get("/admin/experiments", **says(ExperimentList, errors=(503,)))
async def show_experiments(request: Request) -> Response:
    """The running experiment with its counts, and the last one that was ended by its limits."""
    return _experiments(_service(request))


@router.put("/admin/experiments", **says(ExperimentList, takes=ExperimentBody, errors=(*BODY, 404, 409, 503)))
async def begin_experiment(request: Request) -> Response:
    """Start an experiment, or change share and limits of the running one."""
    service = _service(request)
    body = parse(ExperimentBody, await read_object(request))
    limits = Limits(body.min_samples, body.max_error_rate, body.max_latency_ratio)
    await _do(service.backend.begin(Experiment(body.version, body.kind, body.percent, limits)))
    return _experiments(service)


@router.delete("/admin/experiments", **says(ExperimentList, errors=(409, 503)))
async def end_experiment(request: Request) -> Response:
    """End the experiment; idempotent."""
    service = _service(request)
    await _do(service.backend.end())
    return _experiments(service)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    if not service.model_loaded:
        service.require_ready()
    return service


def _experiments(service: Service) -> Response:
    trial = service.backend.trial
    return JsonResponse(
        {"experiments": [trial.to_json()] if trial else [], "last_rollback": service.backend.last_rollback}
    )


async def _changed(service: Service, change: Coroutine[Any, Any, None]) -> Response:
    before, started = service.backend.model.version, time.monotonic()
    await _do(change)
    return JsonResponse(
        {
            "active": service.backend.model.version,
            "before": before,
            "took_ms": round((time.monotonic() - started) * 1000, 1),
        }
    )


async def _do(change: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(change)
    _changes.add(task)
    task.add_done_callback(_changes.discard)
    try:
        await asyncio.shield(task)
    except (UnknownVersion, Conflict, ModelRefused, RolloutFault) as error:
        raise _answer_to(error) from None


def _answer_to(error: Exception) -> ApiError:
    if isinstance(error, UnknownVersion):
        return ApiError(404, "version_not_found", str(error.args[0]), param="version")
    if isinstance(error, Conflict):
        return ApiError(409, "conflict", str(error))
    if isinstance(error, ModelRefused):
        return ApiError(409, "model_refused", str(error))
    return unavailable("rollout_failed", str(error), _RETRY_AFTER_S)
