"""Refuses bodies over the limit, announced or chunked, before they fill memory."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_service.api.errors import ApiError
from inference_service.logs import request_fields


class BodyLimit:
    """ASGI middleware: 413 beyond `max_bytes`.

    A body without Content-Length is counted as it arrives; the error is then raised in its reader.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._too_large().response()(scope, receive, send)
            return

        fields = request_fields(scope)
        fields["bytes_in"] = 0

        async def counted() -> Message:
            message = await receive()
            fields["bytes_in"] += len(message.get("body", b""))
            if fields["bytes_in"] > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ApiError:
        return ApiError(413, "body_too_large", f"the request body is limited to {self._max_bytes} bytes")
