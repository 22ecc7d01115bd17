"""Wiring only: settings and a backend become an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from inference_service.api import admin, complete, completions, errors, events, health, models, openapi
from inference_service.api.auth import Authentication
from inference_service.api.body_limit import BodyLimit
from inference_service.api.observe import Observe
from inference_service.api.service import Service
from inference_service.api.straight import Straight
from inference_service.backends.base import Backend
from inference_service.registry.deployments import Deployments
from inference_service.registry.source import StoreSource
from inference_service.registry.store import ModelStore
from inference_service.response_cache import CachedBackend, ResponseCache
from inference_service.settings import Settings


class _Application(FastAPI):
    """Without FastAPI's own telemetry: `Observe` tells what may be told."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Starlette.__call__(self, scope, receive, send)


def create_app(
    settings: Settings, backend: Backend, make: Callable[[Path], Backend] | None = None, name: str = ""
) -> FastAPI:
    """The application; `app.state.service` is its Service.

    `make` gives the backend of a model directory, for the versions of the store that the settings name; `name` is
    what the model is called in the API whichever version serves, "" for what the first one is called. The model loads
    in the background from the lifespan's start on: until then completions answer 503.
    Raises SettingsError when a setting cannot be used.
    """
    cache = None
    if settings.response_cache_mb:
        cache = ResponseCache(settings.response_cache_mb << 20, settings.response_cache_ttl_s, settings.redis)

    def in_front(computing: Backend) -> Backend:
        return CachedBackend(computing, cache) if cache else computing

    source = None
    if settings.models and make:
        store = ModelStore(settings.models, Path(settings.models_cache).expanduser())
        source = StoreSource(store, lambda path: in_front(make(path)))
    deployments = Deployments(in_front(backend), source, name)
    service = Service(settings, deployments)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        loading = asyncio.create_task(service.load())
        async with service.stores:
            yield
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await deployments.stop()
        if cache:
            await cache.close()
        await asyncio.to_thread(service.tracing.close)

    app = _Application(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.service = service
    modules = (completions, complete, events, models, health, admin)
    for module in modules:
        app.include_router(module.router)
    openapi.install(app, settings)
    errors.install(app)
    routes = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    # From the inside out: everything is observed, and a key is checked before a body is read.
    layers: ASGIApp = Straight(app.build_middleware_stack(), routes)
    layers = BodyLimit(layers, settings.max_body_bytes)
    layers = Authentication(layers, service.stores.keys)
    app.middleware_stack = Observe(layers, service.metrics, service.tracing)
    return app
