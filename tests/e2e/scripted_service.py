"""A completion service with the real one's HTTP contract, which knows the text that is going to be typed."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedService(ThreadingHTTPServer):
    """Completes a prompt that `target` begins with by the next `lines` lines of `target`.

    With `held`, answers wait until `answer` is set. With a `key`, whoever does not show it gets 401.
    """

    daemon_threads = True

    def __init__(self, port: int = 0, key: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = key
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.events: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self.answer = threading.Event()
        self.follow("")

    def follow(self, target: str, *, lines: int = 1, held: bool = False) -> None:
        self.target, self.lines = target, lines
        if held:
            self.answer.clear()
        else:
            self.answer.set()
        self.events.clear()
        self.requests.clear()
        self._issued: set[str] = set()

    def completion(self, prompt: str) -> str:
        if not self.target.startswith(prompt):
            return ""
        rest = self.target[len(prompt) :]
        return "".join(rest.splitlines(keepends=True)[: self.lines]).removesuffix("\n")

    def new_id(self) -> str:
        completion_id = f"cmpl-{next(self._numbers)}"
        self._issued.add(completion_id)
        return completion_id

    def record(self, event: dict[str, Any]) -> None:
        """Keeps an event, unless it is a late one of the text that was followed before."""
        if event["completion_id"] in self._issued:
            self.events.append(event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedService

    def do_GET(self) -> None:
        routes = {
            "/readyz": {"status": "ready"},
            "/health": {"status": "ok", "model_loaded": True, "device": "cpu"},
            "/v1/models": {"object": "list", "data": [{"id": "scripted", "object": "model"}]},
            "/info": {"model": "scripted", "device": "cpu", "limits": {}},
        }
        self._json(200 if self.path in routes else 404, routes.get(self.path, {}))

    def do_DELETE(self) -> None:
        self._json(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            error = {"message": "Unknown API key.", "type": "authentication_error", "code": "invalid_api_key"}
            self._json(401, {"error": {**error, "param": None}})
            return
        if self.path == "/v1/events":
            self.server.record(body)
            self._json(202, {})
            return
        self.server.requests.append(body)
        completion_id = self.server.new_id()
        text = self.server.completion(body["prompt"])
        self.server.answer.wait(30)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        # Two characters a chunk, so that nothing in the tests depends on where the stream is cut.
        for start in range(0, len(text), 2):
            self._event(completion_id, text[start : start + 2], None)
        self._event(completion_id, "", "stop")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, completion_id: str, text: str, finish_reason: str | None) -> None:
        choice = {"text": text, "index": 0, "finish_reason": finish_reason}
        chunk = {"id": completion_id, "object": "text_completion", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def _json(self, status: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client cancelled: what superseding looks like from here
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def scripted_service(port: int = 0, key: str = "") -> Iterator[ScriptedService]:
    service = ScriptedService(port, key)
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()
