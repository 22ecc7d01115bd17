"""Applications with a scripted backend: in process, on a live socket, and as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deploy.cluster.processes import service_environment
from inference_service import http_server
from inference_service.app import create_app
from inference_service.settings import Settings
from tests.inference_service.api.scripted_backend import ScriptedBackend

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Api(SimpleNamespace):
    """What a test needs: `client` (httpx), `backend`, `app`, `service`."""


@contextlib.asynccontextmanager
async def _in_process(backend: Any, wait: bool, **settings: Any) -> AsyncIterator[Api]:
    app = create_app(Settings(**settings), backend)
    async with app.router.lifespan_context(app):
        if wait:
            await app.state.service.loaded.wait()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://midfill") as client:
            yield Api(client=client, backend=backend, app=app, service=app.state.service)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """`api = await serve(backend=…, wait=True, **settings)`: the application in process, model loaded."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(backend: Any = None, wait: bool = True, **settings: Any) -> Api:
            return await stack.enter_async_context(_in_process(backend or ScriptedBackend(), wait, **settings))

        yield start


@pytest.fixture
async def api(serve: Callable[..., Any]) -> Api:
    return await serve()


@pytest.fixture
def scripted() -> type[ScriptedBackend]:
    return ScriptedBackend


@contextlib.asynccontextmanager
async def _on_socket(
    backend: Any, receive_timeout_s: float = 30.0, send_timeout_s: float = 30.0, **values: Any
) -> AsyncIterator[Api]:
    settings = Settings(**values)
    app = create_app(settings, backend)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = http_server.server(
        app,
        max_connections=settings.max_connections,
        receive_timeout_s=receive_timeout_s,
        send_timeout_s=send_timeout_s,
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await app.state.service.loaded.wait()
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            yield Api(client=client, backend=backend, app=app, service=app.state.service, url=url)
    finally:
        server.should_exit = True
        server.force_exit = True
        await serving


@pytest.fixture
async def live() -> AsyncIterator[Callable[..., Any]]:
    """`api = await live(backend=…, **settings)`: uvicorn on a free port of loopback, in this event loop."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(backend: Any = None, **settings: Any) -> Api:
            return await stack.enter_async_context(_on_socket(backend or ScriptedBackend(), **settings))

        yield start


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """For a test that starts the service in this process, which takes over all logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Process:
    """A `midfill-serve` process; `output` lines of stdout come through a thread, stderr into a file."""

    def __init__(self, command: list[str], script: dict[str, Any], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**service_environment({}), "SCRIPT": json.dumps(script), **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def ready(self) -> str:
        """The base URL from the ready line."""
        line = self.lines.get(timeout=120)  # a busy machine takes its time to import torch
        assert line.startswith("midfill-serve: ready on http://"), line
        return line.split()[3]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        return self.process.wait(timeout=60)

    @property
    def stderr(self) -> str:
        return self.log.read_text()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`start_process(*flags, script={…}, env={…}, program=[…])`; what still runs at the end is killed."""
    processes: list[Process] = []

    def start(
        *flags: str,
        script: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        program: tuple[str, ...] = (str(HERE / "scripted_service.py"),),
    ) -> Process:
        log = tmp_path / f"stderr-{len(processes)}"
        process = Process([sys.executable, *program, *flags], script or {}, env or {}, log)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.process.kill()
        process.process.wait()
