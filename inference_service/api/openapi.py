"""The OpenAPI document: FastAPI's, with our bodies, limits, keys and errors in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from inference_service.api.auth import OPEN_PATHS
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import BODIES, EVENTS
from inference_service.settings import Settings
from inference_service.version import VERSION

_REF = "#/components/schemas/{model}"
_ABOUT = """Code completion: OpenAI's text completions with a `suffix`, a short form for scripts, and events.

Unknown fields are ignored and null means absent. Every error is `{"error": {message, type, code, param}}`, decided
before the first byte of a stream. `X-Request-Id` is accepted and echoed.
"""


def document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document of all routes of `app` under `settings`. Deterministic."""
    page = get_openapi(title="Midfill", version=VERSION, description=_ABOUT, routes=app.routes)
    components = page.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    ours = (*BODIES.values(), *EVENTS.values())
    _, defined = models_json_schema([(model, "validation") for model in ours], ref_template=_REF)
    for name, schema in defined["$defs"].items():
        schemas[name] = _with_nulls(schema) if name in BODIES else schema
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name in ("CompletionBody", "CompleteBody"):
        if name in schemas:
            _number(schemas[name]["properties"]["max_tokens"])["maximum"] = settings.max_tokens_limit
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, methods in page["paths"].items():
        for operation in methods.values():
            _complete(path, operation)
    return page


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the document at /openapi.json; it is built at the first request."""
    built: dict[str, Any] = {}

    async def openapi(_: Request) -> Response:
        if not built:
            built.update(document(app, settings))
        return JsonResponse(built)

    app.add_route("/openapi.json", openapi, include_in_schema=False)


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if path in OPEN_PATHS:
        responses.pop("401", None)
        responses.pop("403", None)
    else:
        # The empty entry: no key is needed where none is configured.
        operation["security"] = [{"bearer": []}, {"header": []}, {}]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI's own; ours is 400
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = {"schema": {"type": "string"}}


def _with_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """`null` means absent for every field of a body that is not required."""
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        allows_null = {"type": "null"} in field.get("anyOf", [])
        if name in required or allows_null:
            continue
        about = {key: field.pop(key) for key in ("default", "description", "title") if key in field}
        kinds = field.pop("anyOf", None) or [dict(field)]
        field.clear()
        field.update(anyOf=[*kinds, {"type": "null"}], **about)
    return schema


def _number(field: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(kind for kind in field["anyOf"] if kind.get("type") == "integer")
    return found
