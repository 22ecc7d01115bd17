"""What HTTP and scheduling cost without a model: our service with an engine that costs nothing, beside bare uvicorn, a
bare FastAPI echo and llama.cpp's server with a tiny model, in one run on one machine.

    python -m tests.benchmarks.bench_overhead [--seconds 5]

Each server is a process of its own; the load comes from this one over keep-alive sockets. Each request has another
prompt, so nothing is answered from the cache. On a machine that does other work too, compare the processor time of the
server for each request.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import quantiles
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from tests.benchmarks import record

ROOT = Path(__file__).parents[2]
PROMPT = "def add(a, b):\n    return "
BODY = {"prompt": PROMPT, "suffix": "\n", "max_tokens": 16, "temperature": 0, "path": "src/add.py", "mode": "line"}
STREAM_TOKENS = 200
KINDS = ("uvicorn", "fastapi", "midfill", "llama.cpp")


def serve(kind: str) -> None:
    """The process to measure: prints its port and serves until it is terminated."""
    if kind == "llama.cpp":
        _llama_cpp()
        return
    import uvloop

    from inference_service import http_server, logs

    app = {"uvicorn": lambda: _bare, "fastapi": _echo, "midfill": _midfill}[kind]()
    logs.configure()
    server = http_server.server(app, max_connections=4096)
    if kind == "uvicorn":
        server.config.lifespan = "off"

    async def run() -> None:
        import socket

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        print(listener.getsockname()[1], flush=True)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _llama_cpp() -> None:
    """llama.cpp's server over a GPT-2 of two small layers: it has no engine that costs nothing."""
    from inference_service.model import directory, huggingface
    from tests.inference_service.model.huggingface.small_models import random_model, save
    from training.export.gguf_file import export_gguf

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        loaded = huggingface.load(save(random_model("gpt2"), "gpt2", base / "checkpoint"))
        directory.write(base / "gpt2", loaded.build_float(), loaded.tokenizer, [], "# card\n", {})
        export_gguf(directory.load(base / "gpt2"), base / "gpt2.gguf")
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.port = str(base / "gpt2.gguf"), 0
        params.n_ctx, params.n_parallel, params.warmup, params.fit_params = 512 * 32, 32, False, False
        params.cpuparams.n_threads = 1
        server = xllamacpp.Server(params)
        print(server.listening_address.rsplit(":", 1)[1].strip("/"), flush=True)
        import threading

        threading.Event().wait()


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    """The least that an answer in JSON takes."""
    data = b""
    more = True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    body = json.loads(data)
    if not body.get("stream"):
        answer = json.dumps({"choices": [{"text": body["prompt"]}]}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(body["max_tokens"]):
        await send({"type": "http.response.body", "body": _timed_event(), "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _timed_event() -> bytes:
    return f"data: {json.dumps({'choices': [{'text': f'{time.time():.6f}'}]}, separators=(',', ':'))}\n\n".encode()


def _echo() -> Any:
    app = FastAPI()

    @app.post("/v1/completions")
    async def echo(request: Request) -> Response:
        body = json.loads(await request.body())
        if not body.get("stream"):
            return Response(json.dumps({"choices": [{"text": body["prompt"]}]}), media_type="application/json")

        async def events() -> AsyncGenerator[bytes, None]:
            for _ in range(body["max_tokens"]):
                yield _timed_event()
                await asyncio.sleep(0)
            yield b"data: [DONE]\n\n"

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

    def __init__(self, port: int, body: dict[str, Any], until: float, times: list[float]) -> None:
        self._port, self._body, self._until, self._times = port, body, until, times
        self._number = 100_000
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self.done = self._loop.create_future()
        self.connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():  # llama.cpp's server closes a connection after a hundred requests
            self._buffer = b""
            self.connecting = self._loop.create_task(self._connect())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._number += 1
        request = _request(self._body | {"prompt": f"{PROMPT}{self._number}"})
        self._asked = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]

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
            self.done.set_result(None)
            self._transport.close()


def _request(body: dict[str, Any], *, close: bool = False) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return head.encode() + (b"\r\nConnection: close" if close else b"") + b"\r\n\r\n" + data


def processor_s(pid: int) -> float:
    """Processor time that a process has taken with all its threads, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(port: int, clients: int, seconds: float, pid: int, **fields: Any) -> dict[str, float]:
    """Whole answers: completions per second, the percentiles of their times in ms, processor time of each in µs."""
    await _ask(port, clients, 0.5, fields)  # warm up
    before = processor_s(pid)
    times, elapsed = await _ask(port, clients, seconds, fields)
    cuts = quantiles(times, n=100)
    return {
        "per_s": len(times) / elapsed,
        "p50_ms": cuts[49] * 1e3,
        "p95_ms": cuts[94] * 1e3,
        "cpu_us": (processor_s(pid) - before) / len(times) * 1e6,
    }


async def _ask(port: int, clients: int, seconds: float, fields: dict[str, Any]) -> tuple[list[float], float]:
    times: list[float] = []
    start = time.perf_counter()
    clients_ = [
        Client(port, BODY | {"session": f"document-{number}"} | fields, start + seconds, times)
        for number in range(clients)
    ]
    await asyncio.gather(*(client.done for client in clients_))
    return times, time.perf_counter() - start


async def stream(port: int, streams: int, pid: int) -> dict[str, float]:
    """Streams at once: pieces per second, the time from their making to their arrival, processor time of each."""
    delays: list[float] = []
    pieces = 0

    async def one(number: int) -> None:
        nonlocal pieces
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = BODY | {"prompt": f"{PROMPT}{number}", "stream": True, "max_tokens": STREAM_TOKENS, "temperature": 1}
        writer.write(_request(body, close=True))
        buffer = b""
        while data := await reader.read(1 << 16):
            now = time.time()
            *lines, buffer = (buffer + data).split(b"\n\n")
            for line in lines:
                at = line.find(b'"text":')
                if at < 0:
                    continue
                text = line[at + 7 :].strip().lstrip(b'"').split(b'"')[0]
                made = [float(text[i : i + 17]) for i in range(0, len(text) - 16, 17)] if text[:1] == b"1" else []
                pieces += max(len(made), 1)
                delays.extend(now - moment for moment in made)
        writer.close()

    before = processor_s(pid)
    start = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(streams)))
    elapsed = time.perf_counter() - start
    return {
        "pieces_per_s": pieces / elapsed,
        "p95_delay_ms": quantiles(delays, n=100)[94] * 1e3 if delays else float("nan"),
        "cpu_us": (processor_s(pid) - before) / pieces * 1e6,
    }


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """All figures of one server."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_overhead", "--serve", kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    fields = {"max_tokens": 1, "suffix": None} if kind == "llama.cpp" else {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            time.sleep(0.5)
            found = {
                "one client": asyncio.run(load(port, 1, seconds, process.pid, **fields)),
                "32 clients": asyncio.run(load(port, 32, seconds, process.pid, **fields)),
            }
            if kind != "llama.cpp":  # a stream of it is computed: no figure of what HTTP costs
                found["100 streams"] = asyncio.run(stream(port, 100, process.pid))
            return found
        finally:
            process.kill()


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--serve", choices=KINDS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    kinds = arguments.only or KINDS
    found = {kind: measure(kind, arguments.seconds) for kind in kinds}
    print(f"{'':26}" + "".join(f"{kind:>12}" for kind in kinds))
    for load_, figures in found[kinds[0]].items():
        for name in figures:
            values = [found[kind].get(load_, {}).get(name, float("nan")) for kind in kinds]
            print(f"{load_ + ' ' + name:26.26}" + "".join(f"{value:12.2f}" for value in values))
    record.write("overhead", {"servers": found}, arguments.results)


if __name__ == "__main__":
    main()
