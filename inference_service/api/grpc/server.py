"""gRPC beside HTTP: each call becomes a streamed `POST /v1/completions` to the same application.

So keys, quotas, admission, errors, logs, metrics and traces are those of HTTP, and there is nothing to keep equal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
from fastapi import FastAPI
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inference_service.api.grpc import midfill_pb2 as pb
from inference_service.api.grpc.bridge import Refused, call
from inference_service.api.service import Service
from inference_service.logs import log
from inference_service.settings import Settings

NAME = pb.DESCRIPTOR.services_by_name["CompletionService"].full_name
_POLL_S = 0.2
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class GrpcServer:
    """`start`, and `stop` when HTTP has drained: the runs of both are the service's."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._service: Service = app.state.service
        self._health = health.aio.HealthServicer()
        # by default two processes would share the port, each with half of the calls
        options = [("grpc.max_receive_message_length", settings.max_body_bytes), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        handler = grpc.unary_stream_rpc_method_handler(
            self._complete,
            request_deserializer=pb.CompleteRequest.FromString,
            response_serializer=pb.CompleteResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"Complete": handler}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port cannot be had."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        try:
            self._server.add_insecure_port(f"{host}:{self._settings.grpc_port}")
        except RuntimeError:
            raise OSError(f"cannot listen on {host}:{self._settings.grpc_port} for gRPC") from None
        await self._server.start()
        self._polling = asyncio.create_task(self._tell_health())
        log("gRPC listens", port=self._settings.grpc_port)

    async def stop(self) -> None:
        """End at once what is still there."""
        if self._polling is not None:
            self._polling.cancel()
        await self._server.stop(1.0)

    async def _complete(
        self, request: pb.CompleteRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.CompleteResponse]:
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            # a little sooner than the caller gives up: what is there by then is better than nothing
            within_ms = max(1.0, remaining_s * 900)
            if not request.HasField("deadline_ms") or request.deadline_ms > within_ms:
                request.deadline_ms = min(within_ms, 600_000.0)
        try:
            async with contextlib.aclosing(call(self._app, request, context.invocation_metadata() or ())) as parts:
                async for part in parts:
                    yield part
        except Refused as refused:
            status = _STATUS.get(refused.status, grpc.StatusCode.INTERNAL)
            await context.abort(status, refused.message, trailing_metadata=refused.metadata)

    async def _tell_health(self) -> None:
        serving = health_pb2.HealthCheckResponse.SERVING
        while True:
            status = serving if self._service.unreadiness() is None else health_pb2.HealthCheckResponse.NOT_SERVING
            for name in ("", NAME):
                await self._health.set(name, status)
            await asyncio.sleep(_POLL_S)
