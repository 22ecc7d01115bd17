"""The one error shape of the API, `{"error": {message, type, code, param}}`, and where it is applied."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from inference_service.api.json_response import JsonResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_CODES = {404: "not_found", 405: "method_not_allowed"}
CLIENT_CLOSED_REQUEST = 499  # nginx's code for a client that left; never seen by a client, only logged and counted


class ApiError(Exception):
    """An answer other than success. `message` names fields and limits and never quotes what the user sent."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}

    def response(self) -> Response:
        """The whole answer."""
        return JsonResponse(self.body(), self.status, self.headers)


class ClientGone(Exception):
    """The client closed the connection before its answer was complete; `Observe` is where it ends."""


def invalid(param: str | None, message: str) -> ApiError:
    """400: the body is malformed or a field is out of range."""
    return ApiError(400, "invalid_value", message, param=param)


def unavailable(code: str, message: str, retry_after_s: int) -> ApiError:
    """503: not now, but worth retrying in `retry_after_s` seconds."""
    return ApiError(503, code, message, headers={"Retry-After": str(retry_after_s)})


def internal() -> ApiError:
    """500: a fault of ours; the details are in the log under the request id."""
    return ApiError(500, "internal_error", "internal error; the service's log has it under this request's X-Request-Id")


def install(app: FastAPI) -> None:
    """Make every error of `app` leave in the API's shape."""

    async def on_api_error(_: Request, error: Exception) -> Response:
        return cast(ApiError, error).response()

    async def on_http_error(request: Request, raised: Exception) -> Response:
        error = cast(HTTPException, raised)
        message = {
            404: "no such route",
            405: f"{request.method} is not allowed here",
        }.get(error.status_code, str(error.detail))
        code = _CODES.get(error.status_code, "invalid_request")
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of the first route only
            headers["Allow"] = ", ".join(_methods(app, request))
        return ApiError(error.status_code, code, message, headers=headers).response()

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What may be done with the path of `request`, by all routes that have it."""
    # FastAPI keeps the routes of an included router inside one entry of its own
    routers = [getattr(entry, "original_router", None) for entry in app.routes]
    routes = [route for router in (app, *routers) if router for route in router.routes if isinstance(route, Route)]
    found = [route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted(set().union(*found))
