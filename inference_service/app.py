"""Wiring only: settings and a backend become an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from fastapi import FastAPI

from inference_service.api import complete, completions, errors, events, health, models, openapi
from inference_service.api.auth import Authentication
from inference_service.api.body_limit import BodyLimit
from inference_service.api.observe import Observe
from inference_service.api.service import Service
from inference_service.backends.base import Backend
from inference_service.settings import Settings


def create_app(settings: Settings, backend: Backend) -> FastAPI:
    """The application; `app.state.service` is its Service.

    The model loads in the background from the lifespan's start on: until then completions answer 503.
    Raises SettingsError when a setting cannot be used.
    """
    service = Service(settings, backend)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        loading = asyncio.create_task(service.load())
        async with service.stores:
            yield
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await backend.stop()
        await asyncio.to_thread(service.tracing.close)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.service = service
    for module in (completions, complete, events, models, health):
        app.include_router(module.router)
    openapi.install(app, settings)
    errors.install(app)
    # The last one added is the outermost: everything is observed, and a key is checked before a body is read.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Authentication, keys=service.stores.keys)
    app.add_middleware(Observe, metrics=service.metrics, tracing=service.tracing)
    return app
