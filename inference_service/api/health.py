"""`/livez`, `/readyz`, `/health` and `/metrics`: for machines that watch the service."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from inference_service.api.answers import Alive, Health, NotReady, Ready
from inference_service.api.errors import unavailable
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import router as new_router
from inference_service.api.routing import says
from inference_service.api.service import Service
from inference_service.metrics import CONTENT_TYPE, OPENMETRICS

router = new_router()


@router.get("/livez", **says(Alive, errors=(503,)))
async def livez(request: Request) -> Response:
    """200 as long as the event loop turns and a busy engine makes steps; never depends on load."""
    service: Service = request.app.state.service
    stalled_s = service.stalled_s()
    if stalled_s > service.settings.watchdog_s:
        raise unavailable("stalled", f"the engine has made no step for {stalled_s:.0f} seconds", 30)
    return JsonResponse({"status": "alive"})


@router.get("/readyz", **says(Ready, others={503: NotReady}))
async def readyz(request: Request) -> Response:
    """200 when a completion would be taken now, else 503 with the reason and Retry-After.

    `degraded` names what the service does without for now; that alone makes nobody unready.
    """
    service: Service = request.app.state.service
    refusal = service.unreadiness()
    degraded = {"degraded": found} if (found := service.stores.dependencies.degraded) else {}
    if refusal is None:
        return JsonResponse({"status": "ready", **degraded})
    body = {"status": "unavailable", "reason": refusal.code, **refusal.body(), **degraded}
    return JsonResponse(body, refusal.status, refusal.headers)


@router.get("/health", **says(Health, others={503: Health}))
async def health(request: Request) -> Response:
    """`{status, model_loaded, device}`; 200 when the model can be used, 503 before and while draining."""
    service: Service = request.app.state.service
    ready = service.phase == "ready"
    body = {
        "status": "ok" if ready else service.phase,
        "model_loaded": service.model_loaded,
        "device": service.device,
    }
    return JsonResponse(body, 200 if ready else 503)


@router.get("/metrics", **says(None, text="text/plain"))
async def metrics(request: Request) -> Response:
    """Prometheus text; OpenMetrics, with the traces of examples, where the scraper accepts it."""
    service: Service = request.app.state.service
    if "application/openmetrics-text" in request.headers.get("accept", ""):
        return Response(service.metrics.render_openmetrics(), headers={"Content-Type": OPENMETRICS})
    return Response(service.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
