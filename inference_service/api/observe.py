"""The outermost layer: request id, one log line, the status counter, and the last catch for our faults."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_service.api.errors import CLIENT_CLOSED_REQUEST, ClientGone, internal
from inference_service.logs import log, request_fields
from inference_service.metrics import Metrics
from inference_service.tracing import Tracing

_QUIET = frozenset({"/livez", "/readyz", "/health", "/metrics"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._:-]")


class Observe:
    """ASGI middleware. Sets `scope["midfill.received"]` (time.monotonic() seconds) and echoes X-Request-Id.

    Nothing is re-raised to the server: its traceback quotes exception texts, which can hold the user's code.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = scope["midfill.received"] = time.monotonic()
        request_id = _request_id(scope)
        fields = request_fields(scope)
        traced = scope["path"] not in _QUIET
        if traced:
            self._tracing.begin(scope, request_id)
        status = 0
        bytes_out = 0

        async def observed(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientGone:
            status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            log("request failed", level=logging.ERROR, exception=error, request_id=request_id)
            if not status:
                await internal().response()(scope, receive, observed)
            status = 500
        finally:
            if traced:
                self._metrics.answered(status)
                route = getattr(scope.get("route"), "path", "unmatched")
                fields["bytes_out"] = bytes_out
                fields["duration_ms"] = round((time.monotonic() - received) * 1000, 2)
                self._tracing.end(scope, route, status, fields)
                if exemplar := self._tracing.exemplar(scope):
                    fields["trace_id"] = exemplar["trace_id"]
                log(
                    "request",
                    request_id=request_id,
                    method=scope["method"],
                    route=route,
                    status=status,
                    **fields,
                )


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return _UNSAFE.sub("", given)[:128] or secrets.token_hex(16)
