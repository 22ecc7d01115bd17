"""The embedded service: found, or started once per user, and held for as long as this language server runs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsp_server import local_record

log = logging.getLogger(__name__)

# Not by name: whatever an index has under ours need not be ours.
MISSING = (
    'the local service is not installed: pip install ".[serve]" in the folder of Midfill\'s source, '
    "or set midfill.endpoint to a service"
)
STARTING = "the local service is starting"
_POLL_S = 0.1
_FIRST_DELAY_S = 2.0
_LONGEST_DELAY_S = 30.0
_CONNECT_S = 2.0


@dataclass(frozen=True)
class LocalState:
    """With a base URL the service can be asked, with `token` as its key; else `message` says why not."""

    base_url: str | None
    token: str
    message: str
    failed: bool


class LocalService:
    """Stays connected to the host of the local service, and starts one where there is none, until `stop`.

    `on_change` is called when the state changes. The host goes on for `idle_s` seconds after its last guest.
    """

    def __init__(
        self,
        log_path: Path,
        on_change: Callable[[LocalState], None],
        idle_s: float,
        command: Sequence[str] = (sys.executable, "-P", "-m", "inference_service"),
        requires: str = "torch",
    ) -> None:
        self._log_path = log_path
        self._folder = log_path.parent
        self._on_change = on_change
        self._idle_s = idle_s
        self._command = command
        self._requires = requires
        self._task: asyncio.Task[None] | None = None
        self._state: LocalState | None = None
        self._host: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        if importlib.util.find_spec(self._requires) is None:
            self._set(LocalState(None, "", MISSING, True))
            return
        self._set(LocalState(None, "", STARTING, False))
        self._task = asyncio.ensure_future(self._hold())

    async def stop(self) -> None:
        """Let go of the service."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _set(self, state: LocalState) -> None:
        if state != self._state:
            self._state = state
            self._on_change(state)

    async def _hold(self) -> None:
        delay, started_at = _FIRST_DELAY_S, float("-inf")
        while True:
            arrived = time.monotonic()
            if await self._be_guest():
                self._set(LocalState(None, "", STARTING, False))
                if time.monotonic() - arrived > _LONGEST_DELAY_S:
                    delay, started_at = _FIRST_DELAY_S, float("-inf")
            elif time.monotonic() - started_at > delay:
                if started_at > float("-inf"):
                    delay = min(delay * 2, _LONGEST_DELAY_S)
                started_at = time.monotonic()
                self._start_host()
            elif self._host is not None and self._host.poll():
                status = f"exit status {self._host.returncode}"
                self._set(
                    LocalState(None, "", f"the local service cannot be started ({status}); see {self._log_path}", True)
                )
            await asyncio.sleep(_POLL_S if time.monotonic() - started_at < _LONGEST_DELAY_S else 1.0)

    async def _be_guest(self) -> bool:
        """Follow a running host until it is gone; False if there is none."""
        record = local_record.read(local_record.record_path(self._folder))
        if record is None:
            return False
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", record.port)
        except (OSError, TimeoutError):
            return False
        welcome = False
        try:
            writer.write(record.token.encode() + b"\n")
            while line := await reader.readline():
                said = json.loads(line)
                welcome = True
                if said["message"] == "starting":
                    said["message"] = STARTING
                self._set(LocalState(said["base_url"], said["token"], said["message"], said["failed"]))
        except (OSError, ValueError, KeyError, TypeError):
            log.info("the connection to the host of the local service broke off")
        finally:
            writer.close()
        return welcome

    def _start_host(self) -> None:
        # -P keeps the folder that the editor has open off the module path: a project's own `json.py` must not
        # run in the service. Ours comes from where this package does.
        ours = Path(__file__).parent.parent
        path = os.pathsep.join(filter(None, [str(ours), os.environ.get("PYTHONPATH")]))
        arguments = [str(self._folder), str(self._log_path), str(self._idle_s), *self._command]
        try:
            with self._log_path.open("ab") as errors:
                # Not asyncio's: that would kill it when we end, and other editors may need it.
                self._host = subprocess.Popen(
                    [sys.executable, "-P", "-m", "lsp_server.local_host", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={**os.environ, "PYTHONPATH": path},
                    cwd=self._folder,
                    start_new_session=True,
                    creationflags=_windows_flags(),
                )
        except OSError as error:
            message = f"the local service cannot be started ({error.strerror}); see {self._log_path}"
            self._set(LocalState(None, "", message, True))


def _windows_flags() -> int:
    names = ("DETACHED_PROCESS", "CREATE_NEW_PROCESS_GROUP")
    return sum(getattr(subprocess, name, 0) for name in names)
