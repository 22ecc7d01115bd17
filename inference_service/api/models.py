"""`GET /v1/models` and `GET /info`."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from inference_service.api import schemas
from inference_service.api.answers import Info, Model, ModelList
from inference_service.api.errors import ApiError
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import router as new_router
from inference_service.api.routing import says
from inference_service.api.service import Service
from inference_service.version import VERSION

router = new_router()
_STARTED = int(time.time())


@router.get("/v1/models", **says(ModelList, errors=(503,)))
async def list_models(request: Request) -> Response:
    """The served model in OpenAI's shape, with its version and context length in tokens."""
    return JsonResponse({"object": "list", "data": [_model(request)]})


@router.get("/v1/models/{model}", **says(Model, errors=(404, 503)))
async def retrieve_model(request: Request) -> Response:
    """One model by its name."""
    model = _model(request)
    if request.path_params["model"] != model["id"]:
        raise ApiError(404, "model_not_found", f"this service serves the model {model['id']!r}", param="model")
    return JsonResponse(model)


def _model(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    if not service.model_loaded:
        service.require_ready()
    card = asdict(service.backend.model)
    return {"id": card.pop("name"), "object": "model", "created": _STARTED, "owned_by": "midfill", **card}


@router.get("/info", **says(Info))
async def info(request: Request) -> Response:
    """Limits, device, build and effective settings; no secrets."""
    service: Service = request.app.state.service
    settings = service.settings
    loaded = service.model_loaded
    return JsonResponse(
        {
            "service": "midfill",
            "status": service.phase,
            "build": {"version": VERSION, "python": platform.python_version()},
            "device": service.device,
            "model": asdict(service.backend.model) if loaded else None,
            "backend": service.backend.info() if loaded else None,
            "limits": {
                "max_body_bytes": settings.max_body_bytes,
                "max_prompt_chars": settings.max_prompt_chars,
                "max_tokens": settings.max_tokens_limit,
                "max_queue": settings.max_queue,
                "max_reserved_tokens": settings.max_reserved_tokens,
                "max_wait_s": settings.max_wait_s,
                "max_connections": settings.max_connections,
                "max_prompts": schemas.MAX_PROMPTS,
                "max_batch": schemas.MAX_BATCH,
            },
            "settings": settings.public(),
        }
    )
