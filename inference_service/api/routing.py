"""How a route is declared: a handler from Request to Response, and what the OpenAPI document says about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from inference_service.api.answers import ErrorAnswer

_MEANING = {
    400: "The body is malformed or a field is out of range; `param` names it",
    401: "No key, or one that is not known",
    403: "The key lacks the scope",
    404: "No such model",
    408: "The body did not arrive in time",
    409: "A newer request of the same session took its place",
    413: "The body is too large",
    429: "The quota of this key is used up",
    503: "Saturated, draining or loading",
}
_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
BODY = (400, 408, 413)  # what reading a body can end with
WORK = (*BODY, 429, 503)


class _Plain(APIRoute):
    """Calls the handler as it is: it has no parameters to resolve, and the answer is built already."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def router() -> APIRouter:
    """A router for handlers that take the Request alone and return a Response."""
    return APIRouter(route_class=_Plain)


def says(
    answer: type[BaseModel] | None,
    *,
    takes: type[BaseModel] | None = None,
    errors: tuple[int, ...] = (),
    example: dict[str, Any] | None = None,
    status: int = 200,
    others: dict[int, type[BaseModel]] | None = None,
    text: str = "",
    stream: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """Arguments of `@router.post` and its kin: the shape of the answer and of the body, and the other statuses.

    `errors` have the common shape, `others` one of their own. `example` is a body that works on a fresh service;
    docs/api.md shows it and a test sends it. `answer` is None where it is no JSON but `text`, a media type; `stream`
    is what the events of a stream hold.
    """
    responses = {code: refusal(code) for code in (*errors, 401, 403)}
    for code, model in (others or {}).items():
        responses[code] = refusal(code) | {"model": model}
    if text:
        responses[status] = {"content": {text: {"schema": {"type": "string"}}}}
    if stream is not None:
        responses[status] = {"content": {"text/event-stream": {"schema": _event(stream)}}}
    declared: dict[str, Any] = {"status_code": status, "response_model": answer, "responses": responses}
    if answer is None:
        declared["response_class"] = Response  # it has no media type: what the document says is `media` alone
    if takes is not None:
        schema = {"$ref": f"#/components/schemas/{takes.__name__}"}
        content: dict[str, Any] = {"schema": schema} | ({"example": example} if example else {})
        declared["openapi_extra"] = {"requestBody": {"required": True, "content": {"application/json": content}}}
        BODIES[takes.__name__] = takes
    return declared


def refusal(code: int) -> dict[str, Any]:
    """An error answer of the document."""
    headers = {"headers": _RETRY_AFTER} if code in (429, 503) else {}
    return {"model": ErrorAnswer, "description": _MEANING[code], **headers}


def _event(item: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI 3.1's description of an event stream: of one event."""
    EVENTS[item.__name__] = item
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in (item.__name__, ErrorAnswer.__name__)]
    json_text = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": kinds}}
    data = {"anyOf": [{"type": "string", "const": "[DONE]"}, json_text]}
    return {"type": "object", "required": ["data"], "properties": {"data": data}}


EVENTS: dict[str, type[BaseModel]] = {}  # what streams hold, by the name of its schema
BODIES: dict[str, type[BaseModel]] = {}  # what routes take, by the name of its schema
