"""A plain JSON-RPC session with a real language server process, for tests and benchmarks.

with Session.start() as session:
    session.initialize(endpoint="http://127.0.0.1:8000")
    session.open("file:///tmp/a.py", "def add(a, b):\\n    ret")
    items = session.complete("file:///tmp/a.py", 1, 7)
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.lsp_server.loopback import PATIENT_S

ROOT = Path(__file__).resolve().parents[2]
INVOKED, AUTOMATIC = 1, 2


class RpcError(Exception):
    """The server answered with an error; `code` is JSON-RPC's."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code: int = error["code"]


class Session:
    """One server process. All waits are bounded and raise TimeoutError."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.messages: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self._responses: dict[int, dict[str, Any]] = {}
        self._incoming: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._next_id = 0
        self._versions: dict[str, int] = {}
        self._write_lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def start(
        cls,
        command: tuple[str, ...] = (sys.executable, "-m", "lsp_server"),
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> Session:
        """Start the server; `env` is added to this process' environment."""
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        return cls(process)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # messages

    def send(self, method: str, params: Any = None) -> int:
        """Send a request and return its id, for `wait` and `cancel`."""
        self._next_id += 1
        self._write({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self._write({"jsonrpc": "2.0", "method": method, "params": params})

    def cancel(self, request: int) -> None:
        """Send `$/cancelRequest`."""
        self.notify("$/cancelRequest", {"id": request})

    def wait(self, request: int, timeout: float = PATIENT_S) -> Any:
        """The result of a request. Raises RpcError."""
        self._pump(lambda: request in self._responses, timeout, f"no answer to request {request}")
        response = self._responses.pop(request)
        if "error" in response:
            raise RpcError(response["error"])
        return response.get("result")

    def request(self, method: str, params: Any = None, timeout: float = PATIENT_S) -> Any:
        """Send a request and wait for its result."""
        return self.wait(self.send(method, params), timeout)

    def wait_notification(
        self, method: str, matches: Callable[[Any], bool] = lambda params: True, timeout: float = PATIENT_S
    ) -> Any:
        """The params of the first matching notification, also of one that came before."""
        found: list[Any] = []

        def arrived() -> bool:
            found[:] = [p for p in self.notifications(method) if matches(p)]
            return bool(found)

        self._pump(arrived, timeout, f"no matching {method}")
        return found[0]

    def notifications(self, method: str) -> list[Any]:
        """The params of all notifications of that method so far."""
        return [m.get("params") for m in self.messages if m["method"] == method]

    # what editors do

    def initialize(
        self,
        encodings: tuple[str, ...] = ("utf-16",),
        capabilities: dict[str, Any] | None = None,
        root: Path | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """`initialize` and `initialized`; `settings` become initializationOptions. The server's answer."""
        result: dict[str, Any] = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": root.as_uri() if root else None,
                "capabilities": {
                    "general": {"positionEncodings": list(encodings)},
                    "textDocument": {"inlineCompletion": {"dynamicRegistration": False}},
                    **(capabilities or {}),
                },
                "initializationOptions": settings,
            },
        )
        self.notify("initialized", {})
        return result

    def open(self, uri: str, text: str, language: str = "python") -> None:
        """`textDocument/didOpen`."""
        self._versions[uri] = 1
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def insert(self, uri: str, line: int, character: int, text: str) -> None:
        """`textDocument/didChange` as typing sends it."""
        at = {"line": line, "character": character}
        self.change(uri, {"range": {"start": at, "end": at}, "text": text})

    def change(self, uri: str, *changes: dict[str, Any]) -> None:
        """`textDocument/didChange`."""
        self._versions[uri] += 1
        document = {"uri": uri, "version": self._versions[uri]}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)})

    def configure(self, **settings: Any) -> None:
        """`workspace/didChangeConfiguration` with the `midfill` section."""
        self.notify("workspace/didChangeConfiguration", {"settings": {"midfill": settings}})

    def ask(self, uri: str, line: int, character: int, kind: int = INVOKED) -> int:
        """Send `textDocument/inlineCompletion` and return the request's id."""
        return self.send(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": character},
                "context": {"triggerKind": kind},
            },
        )

    def complete(self, uri: str, line: int, character: int, kind: int = INVOKED) -> list[dict[str, Any]]:
        """The items of an inline completion."""
        items: list[dict[str, Any]] = self.wait(self.ask(uri, line, character, kind))["items"]
        return items

    def command(self, name: str, *arguments: Any) -> Any:
        """`workspace/executeCommand`."""
        return self.request("workspace/executeCommand", {"command": name, "arguments": list(arguments)})

    def close(self) -> int:
        """Shut down as an editor does, by force if need be; the exit status."""
        if self.process.poll() is None:
            with contextlib.suppress(TimeoutError, OSError, RpcError):
                self.request("shutdown")
                self.notify("exit")
        try:
            return self.process.wait(PATIENT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    # wire

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        with self._write_lock:
            self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.process.stdin.flush()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while line := stream.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                while stream.readline().strip():
                    pass
                self._incoming.put(json.loads(stream.read(length)))
        self._incoming.put(None)

    def _pump(self, done: Callable[[], bool], timeout: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            try:
                message = self._incoming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{complaint} within {timeout} s") from None
            if message is None:
                raise TimeoutError(f"{complaint}: the server ended")
            if "method" not in message:
                self._responses[message["id"]] = message
                continue
            self.messages.append(message)
            if "id" in message:
                answer = self.answers.get(message["method"], lambda params: None)
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": answer(message.get("params"))})
