"""`POST /v1/events`: what became of completions in the editor."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from inference_service.api.answers import EventAnswer
from inference_service.api.body import parse, read_object
from inference_service.api.errors import unavailable
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import BODY, says
from inference_service.api.routing import router as new_router
from inference_service.api.schemas import EventBody
from inference_service.api.service import Service
from inference_service.events.log import NotAccepted
from inference_service.events.records import Event
from inference_service.guard.principal import Principal

router = new_router()
_EXAMPLE = {"completion_id": "cmpl-1", "event": "accepted", "accepted_chars": 12}


@router.post("/v1/events", **says(EventAnswer, takes=EventBody, errors=(*BODY, 503), example=_EXAMPLE, status=202))
async def record_event(request: Request) -> Response:
    """Keep and count one event, 202. Unknown fields, a completion's text for one, are dropped unread.

    503 with Retry-After when it cannot be kept: what was answered with 202 is not lost.
    """
    service: Service = request.app.state.service
    event = parse(EventBody, await read_object(request))
    principal: Principal = request.scope["midfill.principal"]
    told = Event(event.completion_id, principal.tenant, principal.key_id, event.event, event.accepted_chars)
    try:
        await service.stores.events.happened(told)
    except NotAccepted as reason:
        raise unavailable("events_not_kept", str(reason), 5) from None
    service.backend.event(event.completion_id, event.event)
    return JsonResponse({"status": "accepted"}, 202)
