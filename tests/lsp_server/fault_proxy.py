"""A proxy between language server and service that does to each request what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field

from tests.lsp_server.loopback import LoopbackServer

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """What happens to one request. `kind` is one of

    pass: nothing. delay: the answer comes `amount` seconds late. reset: the connection is reset. close: it is closed
    without a word. half: `amount` bytes of the real answer, then the end. status: `amount` is the HTTP status.
    garbage: `content` instead of the stream. loris: the answer's head, one byte in a tenth of a second, for ever.
    """

    kind: str = "pass"
    amount: float = 0
    content: bytes = b""
    headers: tuple[str, ...] = field(default=())


class FaultProxy(LoopbackServer):
    """Stands in front of the service on `service_port`. Takes a fault for each request from `faults`; without one the
    request passes. Only completions are disturbed, unless `all_paths`."""

    def __init__(self, service_port: int) -> None:
        self.faults: deque[Fault] = deque()
        self.all_paths = False
        self._service_port = service_port
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            disturbed = self.all_paths or lines[0].startswith("post /v1/completions")
            fault = self.faults.popleft() if disturbed and self.faults else Fault()
            if not await self._act(fault, head + body, reader, writer):
                break

    async def _act(
        self, fault: Fault, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        if fault.kind == "reset":
            # linger 0: the peer sees a reset, not an end
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault.kind == "close":
            return False
        if fault.kind == "status":
            extra = "".join(f"{line}\r\n" for line in fault.headers)
            writer.write(f"HTTP/1.1 {int(fault.amount)} X\r\n{extra}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return True
        if fault.kind == "garbage":
            writer.write(SSE + fault.content)
            await writer.drain()
            return False
        if fault.kind == "loris":
            for byte in SSE * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
            return False
        await asyncio.sleep(fault.amount if fault.kind == "delay" else 0)
        await self._forward(request, reader, writer, int(fault.amount) if fault.kind == "half" else None)
        return False

    async def _forward(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._service_port)
        far_writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while limit is None or limit > 0:
                coming = asyncio.ensure_future(far_reader.read(65536))
                await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                data = coming.result()
                if not data:
                    return
                writer.write(data if limit is None else data[:limit])
                await writer.drain()
                limit = None if limit is None else limit - len(data)
                if data.endswith(b"\r\n0\r\n\r\n") or b"Content-Length" in data:
                    return  # the service keeps its connections open
        finally:
            gone.cancel()
            far_writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await gone
