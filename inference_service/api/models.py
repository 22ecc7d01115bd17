"""`GET /v1/models` and `GET /info`."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from importlib import metadata

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from inference_service.api import schemas
from inference_service.api.service import Service

router = APIRouter()
_STARTED = int(time.time())


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """The served model in OpenAI's shape, with its version and context length in tokens."""
    service: Service = request.app.state.service
    if not service.model_loaded:
        service.require_ready()
    card = asdict(service.backend.model)
    model = {"id": card.pop("name"), "object": "model", "created": _STARTED, "owned_by": "midfill", **card}
    return JSONResponse({"object": "list", "data": [model]})


@router.get("/info")
async def info(request: Request) -> Response:
    """Limits, device, build and effective settings; no secrets."""
    service: Service = request.app.state.service
    settings = service.settings
    loaded = service.model_loaded
    return JSONResponse(
        {
            "service": "midfill",
            "status": service.phase,
            "build": {"version": _version(), "python": platform.python_version()},
            "device": service.device,
            "model": asdict(service.backend.model) if loaded else None,
            "backend": service.backend.info() if loaded else None,
            "limits": {
                "max_body_bytes": settings.max_body_bytes,
                "max_prompt_chars": settings.max_prompt_chars,
                "max_tokens": settings.max_tokens_limit,
                "max_queue": settings.max_queue,
                "max_prompts": schemas.MAX_PROMPTS,
                "max_batch": schemas.MAX_BATCH,
            },
            "settings": settings.public(),
        }
    )


def _version() -> str:
    try:
        return metadata.version("midfill")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
