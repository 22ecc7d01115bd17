"""The embedded service: the inference service as a child process on loopback, started and looked after."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lsp_server.client import ServiceClient, ServiceFault
from lsp_server.logs import RotatingBytes

log = logging.getLogger(__name__)

MISSING = 'the local service is not installed: pip install "midfill[serve]", or set midfill.endpoint to a service'
STARTING = "the local service is starting"
_POLL_S = 0.2
_STOP_S = 3.0
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0


class LocalService:
    """Keeps one child running until `stop`.

    `on_change(base_url, message, failed)` is called when its state changes: with a base URL and no message
    when it is ready, else with None and a sentence why it is not. Host and port are appended to `command`.
    """

    def __init__(
        self,
        log_path: Path,
        on_change: Callable[[str | None, str, bool], None],
        command: Sequence[str] = (sys.executable, "-P", "-m", "inference_service"),
        requires: str = "torch",
    ) -> None:
        self._log_path = log_path
        self._on_change = on_change
        self._command = command
        self._requires = requires
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to supervise; returns at once."""
        if importlib.util.find_spec(self._requires) is None:
            self._on_change(None, MISSING, True)
            return
        self._on_change(None, STARTING, False)
        self._task = asyncio.ensure_future(self._supervise())

    async def stop(self) -> None:
        """Stop the child, by closing its stdin, then by force. Returns when it is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _supervise(self) -> None:
        delay = _FIRST_DELAY_S
        while True:
            try:
                was_ready, code = await self._run_once()
            except OSError as error:
                was_ready, code = False, error.errno or -1
            delay = _FIRST_DELAY_S if was_ready else min(delay * 2, _LONGEST_DELAY_S)
            message = f"the local service stopped (exit status {code}), starting it again; see {self._log_path}"
            log.warning(message)
            self._on_change(None, message, True)
            await asyncio.sleep(delay)

    async def _run_once(self) -> tuple[bool, int]:
        """One life of the child: whether it ever was ready, and its exit status."""
        port = _free_port()
        environment = {**os.environ, "MIDFILL_EXIT_ON_STDIN_EOF": "1", "PYTHONUNBUFFERED": "1"}
        # Keys that somebody made for a service of their own are not asked for here.
        environment["MIDFILL_DATABASE"] = "none"
        # -P keeps the folder that the editor has open off the module path: a project's own `json.py` must not
        # run in the service. Ours comes from where this package does.
        ours = Path(__file__).parent.parent
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ours), os.environ.get("PYTHONPATH")]))
        # The key is for the team's service; the local one asks for none.
        environment.pop("MIDFILL_TOKEN", None)
        child = await asyncio.create_subprocess_exec(
            *self._command,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        output = asyncio.ensure_future(self._copy_output(child))
        exited = asyncio.ensure_future(child.wait())
        try:
            ready = await self._until_ready(f"http://127.0.0.1:{port}", exited)
            code = await asyncio.shield(exited)
            await output
            return ready, code
        finally:
            await _end(child, exited)
            output.cancel()

    async def _until_ready(self, base_url: str, exited: asyncio.Future[int]) -> bool:
        client = ServiceClient(base_url, token="", timeout_ms=2000)
        try:
            while not exited.done():
                try:
                    if await client.ready():
                        log.info("the local service is ready at %s", base_url)
                        self._on_change(base_url, "", False)
                        return True
                except ServiceFault:
                    pass  # not listening yet
                await asyncio.wait({exited}, timeout=_POLL_S)
            return False
        finally:
            await client.close()

    async def _copy_output(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        file = RotatingBytes(self._log_path)
        try:
            while data := await child.stdout.read(65536):
                file.write(data)
        finally:
            file.close()


async def _end(child: asyncio.subprocess.Process, exited: asyncio.Future[int]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    for force in (child.terminate, child.kill):
        done, _ = await asyncio.wait({exited}, timeout=_STOP_S)
        if done:
            return
        force()
    await exited


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
