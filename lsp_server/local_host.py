"""The process that keeps the local service running, for all editors of this user at once.

    python -m lsp_server.local_host FOLDER LOG IDLE_SECONDS COMMAND…

It ends at once if another host runs. Language servers connect to its loopback port, say the word from the record
and get a line of JSON at each change of state; as long as one of them stays connected, the service does. The system
closes connections of a process that died, so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from lsp_server import local_record
from lsp_server.client import ServiceClient
from lsp_server.faults import ServiceFault
from lsp_server.logs import RotatingBytes
from lsp_server.tokens import Tokens

log = logging.getLogger(__name__)

_POLL_S = 0.2
_STOP_S = 3.0
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0
# The one that started us needs a moment to connect.
_FIRST_GUEST_S = 10.0
_GREETING_S = 5.0

# what computes, and with what
_MEANT_FOR_ANY = ("MIDFILL_MODEL", "MIDFILL_DEVICE", "MIDFILL_THREADS", "MIDFILL_KV_CACHE", "MIDFILL_UPSTREAM")


class Host:
    """Runs `command`, with host and port appended, until nobody was connected for `idle_s` seconds."""

    def __init__(self, record: Path, log_path: Path, idle_s: float, command: Sequence[str]) -> None:
        self._record = record
        self._log_path = log_path
        self._idle_s = idle_s
        self._command = command
        self._token = secrets.token_urlsafe(32)
        self._guests: set[asyncio.StreamWriter] = set()
        self._state = b""
        self._deserted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._say("", "starting")

    async def run(self) -> None:
        """Serve until idle. Raises OSError where the record cannot be written."""
        server = await asyncio.start_server(self._welcome, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        local_record.write(self._record, local_record.Record(os.getpid(), port, self._token))
        self._leave_after(max(self._idle_s, _FIRST_GUEST_S))
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, self._deserted.set)
        supervising = asyncio.ensure_future(self._supervise())
        try:
            await self._deserted.wait()
        finally:
            # From here on nobody finds this host, and whoever looks starts the next one.
            self._record.unlink(missing_ok=True)
            server.close()
            supervising.cancel()
            await asyncio.gather(supervising, return_exceptions=True)
            for guest in self._guests:
                guest.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_GREETING_S):
                said = await reader.readline()
            if not hmac.compare_digest(said.strip(), self._token.encode()):
                return
            self._guests.add(writer)
            if self._timer is not None:
                self._timer.cancel()
            writer.write(self._state)
            while await reader.read(1024):
                pass
        except (OSError, TimeoutError, ValueError):
            pass
        finally:
            self._guests.discard(writer)
            if not self._guests:
                self._leave_after(self._idle_s)
            writer.close()

    def _leave_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._deserted.set)

    def _say(self, base_url: str, message: str, failed: bool = False) -> None:
        state = {"base_url": base_url or None, "token": self._token, "message": message, "failed": failed}
        self._state = json.dumps(state).encode() + b"\n"
        for guest in self._guests:
            guest.write(self._state)

    async def _supervise(self) -> None:
        delay = _FIRST_DELAY_S
        while True:
            try:
                was_ready, code = await self._run_once()
            except OSError as error:
                was_ready, code = False, error.errno or -1
            delay = _FIRST_DELAY_S if was_ready else min(delay * 2, _LONGEST_DELAY_S)
            message = f"the local service stopped (exit status {code}), starting it again; see {self._log_path}"
            self._say("", message, failed=True)
            await asyncio.sleep(delay)

    async def _run_once(self) -> tuple[bool, int]:
        """One life of the child: whether it ever was ready, and its exit status."""
        port = _free_port()
        child = await asyncio.create_subprocess_exec(
            *self._command,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(),
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

    def _environment(self) -> dict[str, str]:
        """The child's: it ends with us, and only this user's processes may ask it, for others can reach the port."""
        keys = self._record.with_suffix(".keys")
        keys.touch(mode=0o600)
        keys.write_text(hashlib.sha256(self._token.encode()).hexdigest() + "\n")
        # What the user set for a team's service (its key, keys, database, ports) is not meant for this one.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MIDFILL_") or name.startswith(_MEANT_FOR_ANY)
        }
        return {
            **inherited,
            "MIDFILL_EXIT_ON_STDIN_EOF": "1",
            "MIDFILL_API_KEYS_FILE": str(keys),
            "MIDFILL_DATABASE": "none",
            "PYTHONUNBUFFERED": "1",
        }

    async def _until_ready(self, base_url: str, exited: asyncio.Future[int]) -> bool:
        client = ServiceClient(base_url, Tokens.fixed(self._token), timeout_ms=2000)
        try:
            while not exited.done():
                try:
                    await client.check_ready()
                except ServiceFault:  # not listening yet, or still loading
                    await asyncio.wait({exited}, timeout=_POLL_S)
                else:
                    self._say(base_url, "")
                    return True
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


def main(arguments: Sequence[str]) -> int:
    """Run the host; 0 also if there is one already."""
    from filelock import FileLock, Timeout

    folder, log_path, idle_s, *command = arguments
    record = local_record.record_path(Path(folder))
    lock = FileLock(record.with_suffix(".lock"), mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 0
    try:
        asyncio.run(Host(record, Path(log_path), float(idle_s), command).run())
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
