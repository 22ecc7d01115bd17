"""Traces through a real exporter to a collector that parses real OTLP, exemplars, log formats, and what none of them
may ever tell."""

import gzip
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from inference_service.logs import JsonFormatter, PlainFormatter
from inference_service.settings import Settings, SettingsError

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
MARKER = "marker7f3a"


class Collector:
    """Takes what an OTLP/HTTP exporter posts; `raw` are the bodies, `spans()` parses them."""

    def __init__(self):
        self.raw = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                outer.raw.append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        found = []
        for body in self.raw:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                assert {"service.name", "service.version"} <= {item.key for item in resource.resource.attributes}
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.server.shutdown()


def attributes(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


async def test_a_trace_leads_from_the_caller_to_the_engines_steps(serve, collector):
    api = await serve(otlp_endpoint=collector.url)
    headers = {"traceparent": PARENT, "X-Request-Id": "abc"}
    for stream in (False, True):
        await api.client.post("/v1/completions", json={"prompt": "x", "stream": stream}, headers=headers)
    await api.client.post("/v1/completions", json={"prompt": 1})
    await api.client.get("/livez")
    api.service.tracing.close()
    spans = collector.spans()
    roots = [span for span in spans if span.name == "POST /v1/completions"]
    assert len(roots) == 3
    ours, streamed, refused = roots
    for root in (ours, streamed):
        assert root.trace_id.hex() == TRACE and root.parent_span_id.hex() == "b7ad6b7169203331"
        told = attributes(root)
        assert (told["http.response.status_code"], told["midfill.request_id"]) == (200, "abc")
        assert told["midfill.completion_tokens"] == 3 and told["midfill.prompt_chars"] == 1
        steps = [span for span in spans if span.parent_span_id == root.span_id]
        assert sorted(span.name for span in steps) == ["decode", "prefill", "queue"]
        queue, prefill, decode = (
            next(span for span in steps if span.name == n) for n in ("queue", "prefill", "decode")
        )
        assert queue.end_time_unix_nano == prefill.start_time_unix_nano
        assert prefill.end_time_unix_nano == decode.start_time_unix_nano <= decode.end_time_unix_nano
        assert prefill.end_time_unix_nano - prefill.start_time_unix_nano == 2_000_000
        assert attributes(decode)["midfill.finish_reason"] == "stop"
    assert attributes(refused)["http.response.status_code"] == 400 and refused.trace_id.hex() != TRACE
    assert not [span for span in spans if "livez" in span.name]


async def test_exemplars_carry_the_trace(serve, collector, caplog):
    caplog.set_level(logging.INFO)
    api = await serve(otlp_endpoint=collector.url)
    await api.client.post("/v1/completions", json={"prompt": "x"}, headers={"traceparent": PARENT})
    response = await api.client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    for name in ("midfill_time_to_first_token_seconds", "midfill_e2e_request_latency_seconds"):
        exemplars = [sample.exemplar for sample in families[name].samples if sample.exemplar]
        assert exemplars[0].labels["trace_id"] == TRACE
    plain = await api.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain") and TRACE not in plain.text
    assert TRACE in "".join(JsonFormatter().format(record) for record in caplog.records)


async def test_a_trace_that_is_not_sampled_has_no_exemplar(serve, collector):
    api = await serve(otlp_endpoint=collector.url)
    await api.client.post("/v1/completions", json={"prompt": "x"}, headers={"traceparent": PARENT[:-1] + "0"})
    response = await api.client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert "trace_id" not in response.text


async def test_a_collector_that_is_gone_costs_no_request(serve):
    api = await serve(otlp_endpoint="http://127.0.0.1:9")
    for header in (PARENT, "nonsense", "\xff"):
        headers = [("traceparent", header.encode("latin-1"))]
        assert (await api.client.post("/complete", json={"code": "x"}, headers=headers)).status_code == 200


async def test_the_gap_between_tokens_is_measured(serve, scripted):
    api = await serve(scripted(tokens=5, interval_s=0.01))
    await api.client.post("/v1/completions", json={"prompt": "x"})
    assert "midfill_inter_token_latency_seconds_count 4.0" in (await api.client.get("/metrics")).text


@pytest.mark.parametrize("prompt", [MARKER, f"FAULT {MARKER}", f"LATE FAULT {MARKER}", f"TOO LONG {MARKER}"])
async def test_content_reaches_no_log_no_trace_no_metric_and_no_database(
    serve, collector, caplog, capfd, tmp_path, prompt
):
    caplog.set_level(logging.WARNING, "httpx")  # the client of this test, which logs its URLs
    caplog.set_level(logging.INFO)
    api = await serve(otlp_endpoint=collector.url, database=f"sqlite:///{tmp_path}/midfill.sqlite")
    headers = {"traceparent": PARENT, "X-Midfill-Session": MARKER}
    for stream in (False, True):
        body = {
            "prompt": prompt,
            "suffix": MARKER,
            "path": f"src/{MARKER}.py",
            "language": MARKER,
            "context": [{"path": MARKER, "text": MARKER}],
            "stop": [MARKER],
            "user": MARKER,
            "session": MARKER,
            "stream": stream,
            "echo": True,
        }
        await api.client.post("/v1/completions", json=body, headers=headers)
    await api.client.post("/complete", json={"code": prompt, "suffix": MARKER}, headers=headers)
    await api.client.post("/complete/batch", json={"requests": [{"code": prompt}, {MARKER: 1}, MARKER]})
    await api.client.post("/v1/completions", json={"prompt": MARKER, "mode": MARKER, "model": MARKER})
    await api.client.post("/v1/events", json={"completion_id": "x", "event": "shown", "text": MARKER})
    await api.client.get(f"/{MARKER}?{MARKER}")
    await api.client.delete(f"/v1/completions/{MARKER}")
    api.service.tracing.close()
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert len(records) > 5
    assert len(collector.spans()) > 5
    logs = [formatter.format(record) for formatter in (JsonFormatter(), PlainFormatter()) for record in records]
    assert not [line for line in logs if MARKER in line]
    assert not [body for body in collector.raw if MARKER.encode() in body]
    for accept in ("text/plain", "application/openmetrics-text"):
        assert MARKER not in (await api.client.get("/metrics", headers={"Accept": accept})).text
    printed = capfd.readouterr()
    assert MARKER not in printed.out + printed.err
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"shown" in kept, "the event is in the spool or in the database"
    assert MARKER.encode() not in kept


def test_plain_logs_are_one_line_for_people(start_process):
    process = start_process("--port", "0", "--log-format", "plain")
    process.ready()
    process.signal()
    assert process.exit_code() == 0
    first = process.stderr.splitlines()[0]
    assert " INFO model loaded model=nano version=0123abcd" in first
    with pytest.raises(json.JSONDecodeError):
        json.loads(first)


def test_other_log_formats_are_refused():
    with pytest.raises(SettingsError, match="log_format must be json or plain"):
        Settings(log_format="xml")
