"""uvicorn with bounds: on connections, on the size of headers, and on how long a request may take to arrive and its
answer to leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from inference_service.api.errors import ApiError, unavailable

RECEIVE_TIMEOUT_S = 30.0  # from a connection's or request's first sign to the end of its body
SEND_TIMEOUT_S = 30.0  # a client that reads nothing for so long is treated as gone
MAX_HEADER_BYTES = 64 * 1024
_KEEP_ALIVE_S = 75  # longer than a proxy keeps its idle connections, so that it never writes into a closed one
_GRACE_S = 5  # for answers to leave after the drain


class Protocol(HttpToolsProtocol):
    """One connection. What it refuses is answered in the API's error shape, and the connection is closed."""

    def __init__(
        self, *args: Any, max_connections: int, receive_timeout_s: float, send_timeout_s: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._receive_timeout_s = receive_timeout_s
        self._send_timeout_s = send_timeout_s
        self._stuck: asyncio.TimerHandle | None = None  # runs while the client does not read what is sent
        self._arriving = True  # a request is expected or incomplete
        self._header_bytes = -1  # of an incomplete header, -1 when there is none
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(unavailable("saturated", "too many connections are open", 1))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arriving = False
        self._watch()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self._send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._header_bytes >= 0:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(ApiError(431, "headers_too_large", f"the headers are limited to {MAX_HEADER_BYTES} bytes"))
                return
        self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        self._header_bytes = -1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arriving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, "invalid_http", "this is not an HTTP/1.1 request"))

    def _watch(self) -> None:
        """Start or stop the clock: it runs while a request is incomplete, and is not wound up again by more of it."""
        if self._arriving and self._timer is None:
            self._timer = self.loop.call_later(self._receive_timeout_s, self._too_slow)
        elif not self._arriving and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse(ApiError(408, "timeout", f"the request did not arrive within {self._receive_timeout_s:g} seconds"))

    def _refuse(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps(error.body()).encode()
            headers = {**error.headers, "Content-Type": "application/json", "Content-Length": len(body)}
            lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
            self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"Connection: close\r\n\r\n", body]))
        self._arriving = False
        self._watch()
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn less its signal handling, which closes the listener before /readyz could say "draining"."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then listen. Raises OSError where somebody else listens by now."""
        open_application = self.lifespan.startup

        async def open_and_listen() -> None:
            await open_application()
            try:
                for listener in sockets or ():  # here, because uvloop does not raise it when this is refused
                    listener.listen(self.config.backlog)
            except OSError:
                await self.lifespan.shutdown()
                raise

        self.lifespan.startup = open_and_listen
        await super().startup(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the caller."""
        yield


def server(
    app: ASGIApp,
    *,
    max_connections: int,
    receive_timeout_s: float = RECEIVE_TIMEOUT_S,
    send_timeout_s: float = SEND_TIMEOUT_S,
) -> Server:
    """A server of `app`; `serve(sockets=[…])` runs it until `should_exit`."""
    protocol = partial(
        Protocol,
        max_connections=max_connections,
        receive_timeout_s=receive_timeout_s,
        send_timeout_s=send_timeout_s,
    )
    return Server(
        uvicorn.Config(
            app,
            http=protocol,  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
