"""The short way to routes whose path has no parameters."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from inference_service.api.errors import ApiError


class Straight:
    """ASGI application: calls the handler of `routes` itself, passes everything else on to `app`.

    FastAPI's own way to a handler costs as much as a completion costs us in all: it is there for parameters and
    dependencies, which our handlers do not have (see `routing`).
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self._app = app
        plain = [route for route in routes if "{" not in route.path]
        self._routes = {(method, route.path): route for route in plain for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive))
            await response(scope, receive, send)
        except ApiError as error:
            await error.response()(scope, receive, send)
