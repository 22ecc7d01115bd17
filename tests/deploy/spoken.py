"""What a real service writes into its log and tells a trace collector, while it answers and refuses requests."""

from __future__ import annotations

import gzip
import json
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.service_process import running_service


@dataclass(frozen=True)
class Spoken:
    """`lines` of the log as JSON, and the names of the `attributes` of resources and spans."""

    lines: list[dict[str, Any]]
    attributes: set[str]


def listen() -> Spoken:
    """Runs the service with the bundled model for a few requests, to its end."""
    posted: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            posted.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    traced = ("--otlp-endpoint", f"http://127.0.0.1:{collector.server_port}")
    with tempfile.TemporaryFile("w+") as errors:
        with running_service(*traced, stderr=errors) as url, httpx.Client(base_url=url, timeout=180) as client:
            prompt = {"prompt": "def add(a, b):\n    ", "suffix": "\n", "max_tokens": 4, "temperature": 0}
            for answer, status in (
                (client.post("/v1/completions", json=prompt), 200),
                (client.post("/v1/completions", json={**prompt, "stream": True}), 200),
                (client.post("/complete", json={"code": "import ", "max_tokens": 2}), 200),
                (client.post("/v1/completions", json={"prompt": 1}), 400),
                (client.get("/none"), 404),
            ):
                assert answer.status_code == status, answer.text
        errors.seek(0)
        lines = [json.loads(line) for line in errors if line.startswith("{")]
    collector.shutdown()
    parsed = [ExportTraceServiceRequest.FromString(body) for body in posted]
    resources = [resource for one in parsed for resource in one.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    named = [*(resource.resource for resource in resources), *spans]
    return Spoken(lines, {item.key for one in named for item in one.attributes})
