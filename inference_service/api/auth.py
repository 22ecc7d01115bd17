"""Who asks and what they may do, decided before a body is read."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from inference_service.api.errors import ApiError, unavailable
from inference_service.guard.key_ring import KeyRing, KeysUnknown, Refused
from inference_service.guard.principal import Principal
from inference_service.logs import request_fields

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})
_SCOPES = {
    "v1/completions": "complete",
    "complete": "complete",
    "v1/events": "events",
    "metrics": "metrics",
    "admin": "admin",
}
_PAGE_OF_THIS_MACHINE = re.compile(rb"https?://(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)


class Authentication:
    """ASGI middleware: 401 without a known key, 403 with one that may not do this.

    Puts the Principal into `scope["midfill.principal"]`, and its key's id into the request's log line.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                principal = authorize(self._keys, _presented(scope), scope_of(scope["path"]))
                _refuse_web_pages(scope, principal)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            scope["midfill.principal"] = principal
            if principal.key_id:
                request_fields(scope)["key"] = principal.key_id
        await self._app(scope, receive, send)


def scope_of(path: str) -> str:
    """The scope that a route asks for; "" is any key."""
    parts = path.strip("/")
    return next((name for prefix, name in _SCOPES.items() if f"{parts}/".startswith(f"{prefix}/")), "")


def authorize(keys: KeyRing, presented: str, wanted: str) -> Principal:
    """Who presents this key. Raises ApiError 401, 403 (without the scope `wanted`), 503 (keys not read yet)."""
    try:
        principal = keys.identify(presented)
    except Refused as refusal:
        raise ApiError(401, "invalid_api_key", str(refusal), headers={"WWW-Authenticate": "Bearer"}) from None
    except KeysUnknown:
        raise unavailable("keys_unknown", "API keys cannot be checked: the database is unreachable", 2) from None
    if wanted and wanted not in principal.scopes:
        raise ApiError(403, "missing_scope", f"this needs an API key with the scope {wanted!r}")
    return principal


def _refuse_web_pages(scope: Scope, principal: Principal) -> None:
    """Raise ApiError 403 where a page of somewhere else asks through a browser of this machine, which may do all."""
    origin = dict(scope["headers"]).get(b"origin")
    if origin is None or principal.key_id or "admin" not in principal.scopes:
        return
    if not _PAGE_OF_THIS_MACHINE.fullmatch(origin):
        raise ApiError(403, "foreign_origin", "a web page of another machine needs an API key")


def _presented(scope: Scope) -> str:
    headers = dict(scope["headers"])
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    presented = credentials.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return str(presented.decode("utf-8", "surrogateescape"))
