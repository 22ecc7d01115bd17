"""`POST /v1/events`: what became of completions in the editor."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from inference_service.api.answers import EventAnswer
from inference_service.api.body import parse, read_object
from inference_service.api.routing import BODY, says
from inference_service.api.routing import router as new_router
from inference_service.api.schemas import EventBody
from inference_service.api.service import Service

router = new_router()
_EXAMPLE = {"completion_id": "cmpl-1", "event": "accepted", "accepted_chars": 12}


@router.post("/v1/events", **says(EventAnswer, takes=EventBody, errors=BODY, example=_EXAMPLE, status=202))
async def record_event(request: Request) -> Response:
    """Count one event, 202. Unknown fields, a completion's text for one, are dropped unread."""
    service: Service = request.app.state.service
    event = parse(EventBody, await read_object(request))
    version = service.backend.model.version if service.model_loaded else "unknown"
    service.metrics.events.labels(event=event.event, model_version=version).inc()
    service.metrics.accepted_chars.inc(event.accepted_chars)
    return JSONResponse({"status": "accepted"}, 202)
