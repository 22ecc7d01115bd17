"""What HTTP and scheduling cost without a model: our service with an engine that costs nothing, beside a bare FastAPI
echo, in one run on one machine.

    python tests/benchmarks/bench_overhead.py [--seconds 5]

Each server is a process of its own; the load comes from this one over keep-alive sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import quantiles
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

ROOT = Path(__file__).parents[2]
BODY = {"prompt": "def add(a, b):\n    return ", "suffix": "\n", "max_tokens": 16, "temperature": 0}
STREAM_TOKENS = 200


def serve(kind: str) -> None:
    """The process to measure: prints its port and serves until it is terminated."""
    import uvloop

    from inference_service import http_server, logs

    app = _echo() if kind == "echo" else _midfill()
    logs.configure()
    server = http_server.server(app, max_connections=4096)
    server.config.port = 0

    async def run() -> None:
        import socket

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        print(listener.getsockname()[1], flush=True)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _echo() -> Any:
    app = FastAPI()

    @app.post("/v1/completions")
    async def echo(request: Request) -> Response:
        body = json.loads(await request.body())
        if not body.get("stream"):
            return Response(json.dumps({"choices": [{"text": body["prompt"]}]}), media_type="application/json")

        async def events() -> AsyncGenerator[str, None]:
            for _ in range(body["max_tokens"]):
                yield f"data: {json.dumps({'choices': [{'text': ' x', 'sent': time.time()}]})}\n\n"
                await asyncio.sleep(0)
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def _midfill() -> Any:
    from inference_service.app import create_app
    from inference_service.backends.base import ModelCard
    from inference_service.engine.request import Chunk, CompletionRequest, Stats
    from inference_service.settings import Settings

    class Nothing:
        """An engine that costs nothing; in a stream each token's text is the moment in which it was made."""

        model = ModelCard("nothing", "0", 8192, True)

        def info(self) -> dict[str, Any]:
            return {}

        def gauges(self) -> dict[str, float]:
            return {}

        async def start(self) -> None:
            pass

        async def stop(self) -> None:
            pass

        def cancel(self, completion_id: str) -> bool:
            return False

        async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
            if request.max_tokens == STREAM_TOKENS:
                for _ in range(request.max_tokens):
                    text = f"{time.time():.6f}"
                    yield Chunk(text, ((text, -0.1),))
                    await asyncio.sleep(0)
            stats = Stats(10, 5, request.max_tokens, -0.1, 0.1, 0.1, 0.1)
            yield Chunk("a + b", (("a + b", -0.1),), "stop", stats)

    return create_app(Settings(max_queue=1024, max_reserved_tokens=1 << 30), Nothing())


class Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered; `times` in seconds."""

    def __init__(self, request: bytes, until: float, times: list[float]) -> None:
        self._request, self._until, self._times = request, until, times
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), head + body
        self._buffer = b""
        now = time.perf_counter()
        self._times.append(now - self._asked)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)


async def load(port: int, clients: int, seconds: float) -> dict[str, float]:
    """Whole answers: completions per second and the percentiles of their times in ms."""
    body = json.dumps(BODY).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    await _ask(port, clients, 0.5, request)  # warm up
    times, elapsed = await _ask(port, clients, seconds, request)
    cuts = quantiles(times, n=100)
    return {"per_s": len(times) / elapsed, "p50_ms": cuts[49] * 1e3, "p95_ms": cuts[94] * 1e3}


async def _ask(port: int, clients: int, seconds: float, request: bytes) -> tuple[list[float], float]:
    times: list[float] = []
    start = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(request, start + seconds, times), "127.0.0.1", port)
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    return times, time.perf_counter() - start


async def stream(port: int, streams: int) -> dict[str, float]:
    """Streams at once: pieces per second and, of ours, the time from their making to their arrival."""
    body = json.dumps(BODY | {"stream": True, "max_tokens": STREAM_TOKENS}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    delays: list[float] = []
    pieces = 0

    async def one() -> None:
        nonlocal pieces
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        buffer = b""
        while data := await reader.read(1 << 16):
            now = time.time()
            *lines, buffer = (buffer + data).split(b"\n\n")
            for line in lines:
                at = line.find(b'"text":')
                pieces += at >= 0
                text = line[at + 7 :].strip().lstrip(b'"')[:17]
                if at >= 0 and text[:1] == b"1":
                    delays.append(now - float(text))
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(streams)))
    elapsed = time.perf_counter() - start
    delay = quantiles(delays, n=100)[94] * 1e3 if delays else float("nan")
    return {"pieces_per_s": pieces / elapsed, "p95_delay_ms": delay}


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """All figures of one server."""
    command = [sys.executable, __file__, "--serve", kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            time.sleep(0.5)
            return {
                "one client": asyncio.run(load(port, 1, seconds)),
                "32 clients": asyncio.run(load(port, 32, seconds)),
                "100 streams": asyncio.run(stream(port, 100)),
            }
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--serve", choices=("echo", "midfill"))
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    found = {kind: measure(kind, arguments.seconds) for kind in ("echo", "midfill")}
    print(f"{'':22}{'FastAPI echo':>14}{'midfill':>14}")
    for load_, figures in found["echo"].items():
        for name, value in figures.items():
            print(f"{load_ + ' ' + name:22.22}{value:14.2f}{found['midfill'][load_][name]:14.2f}")
    added = found["midfill"]["one client"]["p50_ms"] - found["echo"]["one client"]["p50_ms"]
    print(f"added to the echo's p50: {added:.2f} ms")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
