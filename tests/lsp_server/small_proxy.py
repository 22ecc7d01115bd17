"""A real HTTP proxy of a few lines: CONNECT tunnels and plain requests, with a list of what went through it."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.lsp_server.loopback import LoopbackServer


class SmallProxy(LoopbackServer):
    """`hosts` maps a name to the port on which this machine plays it."""

    def __init__(self, hosts: dict[str, int]) -> None:
        self.seen: list[str] = []
        self.refuses = False
        self._hosts = hosts
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.seen.append(f"{method} {target}")
        if self.refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        name = urlsplit(target if "//" in target else f"//{target}").hostname or ""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._hosts[name])
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            far_writer.write(head.replace(target.encode(), urlsplit(target).path.encode(), 1))
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
