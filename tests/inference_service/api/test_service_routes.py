"""Events, models, info, probes, metrics, keys, request ids and logs."""

import asyncio
import hashlib
import json
import logging
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference_service.logs import JsonFormatter
from inference_service.settings import SettingsError

KEY = "team-key-1"


def sample(text: str, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return found.value
    return None


async def metrics(api) -> str:
    return (await api.client.get("/metrics")).text


async def test_events_are_counted(api):
    body = {"prompt": "x", "language": "Python"}
    completion = (await api.client.post("/v1/completions", json=body)).json()["id"]
    for event, chars in (("shown", None), ("partially_accepted", 5), ("accepted", 12)):
        body = {"completion_id": completion, "event": event, "accepted_chars": chars}
        assert (await api.client.post("/v1/events", json=body)).status_code == 202
    text = await metrics(api)
    labels = {"event": "accepted", "model_version": "0123abcd", "language": "python"}
    assert sample(text, "midfill_completion_events_total", **labels) == 1
    assert sample(text, "midfill_accepted_chars_total", language="python") == 12


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"event": "shown"}, "completion_id"),
        ({"completion_id": "x"}, "event"),
        ({"completion_id": "x", "event": "seen"}, "event"),
        ({"completion_id": "x", "event": "accepted", "accepted_chars": -1}, "accepted_chars"),
        ({"completion_id": "x" * 129, "event": "accepted"}, "completion_id"),
    ],
)
async def test_bad_events_are_400(api, body, param):
    response = await api.client.post("/v1/events", json=body)
    assert response.status_code == 400 and response.json()["error"]["param"] == param


async def test_models_and_info(api):
    (model,) = (await api.client.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"], model["version"], model["context_length"]) == (
        "nano",
        "model",
        "0123abcd",
        1024,
    )
    info = (await api.client.get("/info")).json()
    assert info["device"] == "cpu" and info["model"]["name"] == "nano"
    assert info["limits"]["max_tokens"] == info["settings"]["max_tokens_limit"] == 512
    assert info["backend"]["kernels"] == "scripted"


async def test_probes_when_ready(api):
    assert (await api.client.get("/livez")).status_code == 200
    assert (await api.client.get("/readyz")).json() == {"status": "ready"}
    health = await api.client.get("/health")
    assert health.status_code == 200
    assert health.json() == {"status": "ok", "model_loaded": True, "device": "cpu"}


async def test_while_loading(serve, scripted):
    api = await serve(scripted(load_s=30), wait=False)
    assert (await api.client.get("/livez")).status_code == 200
    for call in (
        api.client.get("/readyz"),
        api.client.get("/v1/models"),
        api.client.post("/v1/completions", json={"prompt": "x"}),
        api.client.post("/v1/completions", json={"prompt": "x", "stream": True}),
        api.client.post("/complete", json={"code": "x"}),
        api.client.post("/complete/batch", json={"requests": [{"code": "x"}]}),
    ):
        response = await call
        assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "loading"
    health = (await api.client.get("/health")).json()
    assert health == {"status": "loading", "model_loaded": False, "device": "auto"}
    assert (await api.client.get("/info")).json()["model"] is None
    assert (await api.client.get("/metrics")).status_code == 200


async def test_failed_load_is_never_ready(serve, scripted):
    api = await serve(scripted(load_error=OSError("no such model")))
    assert (await api.client.get("/readyz")).json()["reason"] == "failed"
    assert (await api.client.post("/complete", json={"code": "x"})).status_code == 503
    assert (await api.client.get("/livez")).status_code == 200


async def test_metrics_count_what_happened(serve, scripted):
    api = await serve(scripted(tokens=500, interval_s=0.005))
    older = asyncio.create_task(
        api.client.post("/v1/completions", json={"prompt": "x", "session": "s", "max_tokens": 500})
    )
    await api.backend.started.wait()
    await asyncio.sleep(0.03)
    text = await metrics(api)
    assert sample(text, "midfill_active_requests") == 1
    assert sample(text, "midfill_num_requests_running") == 1
    await api.client.post("/v1/completions", json={"prompt": "xy", "session": "s", "max_tokens": 4})
    await older
    await api.client.post("/v1/completions", json={"prompt": 1})
    text = await metrics(api)
    assert sample(text, "midfill_requests_total", status="200") == 1
    assert sample(text, "midfill_requests_total", status="409") == 1
    assert sample(text, "midfill_requests_total", status="400") == 1
    assert sample(text, "midfill_superseded_total") == 1
    assert sample(text, "midfill_prompt_tokens_total") == 20
    assert sample(text, "midfill_prefix_cache_queries_total") == 20
    assert sample(text, "midfill_prefix_cache_hits_total") == 8
    assert sample(text, "midfill_wasted_tokens_total") > 6
    assert sample(text, "midfill_generation_tokens_total") > 4
    assert sample(text, "midfill_time_to_first_token_seconds_count") == 2
    assert sample(text, "midfill_e2e_request_latency_seconds_count") == 2
    assert sample(text, "midfill_request_queue_time_seconds_count") == 2
    assert sample(text, "midfill_model_info", version="0123abcd") == 1
    assert sample(text, "midfill_active_requests") == 0
    assert sample(text, "midfill_num_requests_waiting") == 0
    assert sample(text, "midfill_kv_cache_usage_ratio") == 0.25
    assert sample(text, "midfill_deadline_partial_total") == 0
    assert sample(text, "midfill_aborted_total", stage="decode") == 0


async def test_two_applications_do_not_share_metrics(serve):
    first, second = await serve(), await serve()
    await first.client.post("/complete", json={"code": "x"})
    assert sample(await metrics(first), "midfill_prompt_tokens_total") == 10
    assert sample(await metrics(second), "midfill_prompt_tokens_total") == 0


@pytest.fixture
def key_file(tmp_path):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    path = tmp_path / "keys"
    path.write_text(f"# team keys\n{'0' * 64}\n\n{digest.upper()}  # alice\n")
    return str(path)


ROUTES = [
    "/metrics",
    "/info",
    "/v1/models",
    "/v1/completions",
    "/complete",
    "/complete/batch",
    "/v1/events",
    "/no",
]


async def test_keys_guard_all_but_the_probes(serve, key_file):
    api = await serve(api_keys_file=key_file)
    for route in ROUTES:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"X-API-Key": "wrong"},
            {"Authorization": KEY},
        ):
            response = await api.client.get(route, headers=headers)
            assert response.status_code == 401, (route, headers)
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
    for route in ("/livez", "/readyz", "/health"):
        assert (await api.client.get(route)).status_code == 200
    for headers in (
        {"Authorization": f"Bearer {KEY}"},
        {"X-API-Key": KEY},
        {"Authorization": f"bearer {KEY}"},
    ):
        response = await api.client.post("/complete", json={"code": "x"}, headers=headers)
        assert response.status_code == 200, headers
    assert KEY not in (await api.client.get("/info", headers={"X-API-Key": KEY})).text


async def test_keys_do_not_share_sessions(serve, key_file):
    api = await serve(api_keys_file=key_file)
    body = {"prompt": "x", "session": "doc"}
    await api.client.post("/v1/completions", json=body, headers={"X-API-Key": KEY})
    session = api.backend.requests[0].session
    assert session == f"{hashlib.sha256(KEY.encode()).hexdigest()[:12]}:doc"


@pytest.mark.parametrize("content", ["", "# none\n", "plain-text-key\n", "ab" * 31 + "\n"])
async def test_bad_key_file_stops_the_start_without_quoting_it(serve, tmp_path, content):
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        await serve(api_keys_file=str(path))
    assert "keys" in str(caught.value) and "plain-text-key" not in str(caught.value)


async def test_request_id_is_echoed_clean_or_made(api):
    given = await api.client.get("/livez", headers={"X-Request-Id": "abc-1.2:3"})
    assert given.headers["x-request-id"] == "abc-1.2:3"
    odd = await api.client.get("/livez", headers={"X-Request-Id": b'a"b {x}\xe9' + b"y" * 500})
    assert re.fullmatch(r"abxy{125}", odd.headers["x-request-id"])
    made = {(await api.client.get("/no")).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2 and all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


async def test_canary_in_the_content_reaches_neither_logs_nor_metrics(serve, key_file, caplog):
    api = await serve(api_keys_file=key_file)
    caplog.set_level(logging.DEBUG)
    canary = "canary7f3a"
    headers = {"X-API-Key": KEY, "X-Request-Id": "trace-me"}
    for prompt in (canary, f"FAULT {canary}", f"LATE FAULT {canary}", f"TOO LONG {canary}"):
        for stream in (False, True):
            body = {
                "prompt": prompt,
                "suffix": canary,
                "stream": stream,
                "context": [{"path": canary, "text": canary}],
            }
            await api.client.post("/v1/completions", json=body, headers=headers)
    for body in (
        {"prompt": 1, canary: canary},
        {"prompt": "x", "mode": canary},
        {"prompt": "x", "model": canary},
    ):
        response = await api.client.post("/v1/completions", json=body, headers=headers)
        assert canary not in response.text
    await api.client.post("/v1/completions", content=f'{{"prompt": "{canary}', headers=headers)
    await api.client.post("/complete", json={"code": canary}, headers=headers)
    await api.client.get(f"/{canary}?{canary}", headers=headers)
    await api.client.delete(f"/v1/completions/{canary}", headers=headers)

    formatter = JsonFormatter()
    lines = [formatter.format(record) for record in caplog.records if record.name != "httpx"]
    requests = [json.loads(line) for line in lines if json.loads(line)["event"] == "request"]
    assert len(requests) == 15 and all(line["request_id"] == "trace-me" for line in requests)
    assert not [line for line in lines if canary in line or KEY in line]
    page = (await api.client.get("/metrics", headers=headers)).text
    assert canary not in page and KEY not in page


async def test_request_line_has_sizes_and_timings(api, caplog):
    caplog.set_level(logging.INFO)
    await api.client.post("/v1/completions", json={"prompt": "abcd", "suffix": "ef"})
    (record,) = [record for record in caplog.records if record.getMessage() == "request"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["route"], line["method"], line["status"]) == ("/v1/completions", "POST", 200)
    assert (line["prompt_chars"], line["suffix_chars"]) == (4, 2)
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (10, 4, 3)
    assert line["bytes_in"] == 31 and line["bytes_out"] > 100 and line["finish_reason"] == "stop"
    assert line["duration_ms"] >= line["ttft_ms"] > 0


async def test_our_own_fault_is_500_in_shape_and_logged_without_its_text(api, monkeypatch, caplog):
    def broken():
        raise RuntimeError("canary7f3a")

    monkeypatch.setattr(api.backend, "info", broken)
    response = await api.client.get("/info", headers={"X-Request-Id": "trace-me"})
    assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
    assert response.headers["x-request-id"] == "trace-me"
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name == "midfill"]
    (line,) = [line for line in lines if line["event"] == "request failed"]
    assert (line["exception"], line["request_id"], line["level"]) == ("RuntimeError", "trace-me", "error")
    assert "test_service_routes.py" in line["at"][-1]
    assert "canary7f3a" not in json.dumps(lines) + response.text
    assert sample(await metrics(api), "midfill_requests_total", status="500") == 1


def test_foreign_loggers_lose_what_may_quote_content():
    message = "Task exception was never retrieved\nfuture: <Task exception=ValueError('canary7f3a')>"
    record = logging.LogRecord("asyncio", logging.ERROR, "x.py", 1, message, (), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["logger"]) == ("Task exception was never retrieved", "asyncio")


async def test_unknown_routes_and_methods_have_the_error_shape(api):
    missing = await api.client.get("/v2/nothing")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
    wrong = await api.client.get("/v1/completions")
    assert wrong.status_code == 405 and wrong.json()["error"]["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "POST"
