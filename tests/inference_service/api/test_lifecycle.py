"""The end of a process under load, and a process that cannot go on."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from inference_service.backends.local import LocalBackend
from tests.tries import starved_s, tries


async def ask(client, number):
    """The finish reason of one completion, every third streamed."""
    body = {"prompt": "x", "max_tokens": 10 + 2 * number, "stream": number % 3 == 0}
    response = await client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    if not body["stream"]:
        return response.json()["choices"][0]["finish_reason"]
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return json.loads(lines[-2][6:])["choices"][0]["finish_reason"]


@pytest.mark.parametrize(("drain_s", "reasons"), [("20", {"length"}), ("0.1", {"length", "shutdown"})])
async def test_nothing_is_lost_when_a_busy_service_is_told_to_end(start_process, drain_s, reasons):
    flags = ("--port", "0", "--drain-s", drain_s, "--drain-wait-s", "4")
    process = start_process(*flags, script={"tokens": 400, "interval_s": 0.08})
    url = await asyncio.to_thread(process.ready)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        tasks = []
        for number in range(45):
            tasks.append(asyncio.create_task(ask(client, number)))
            await asyncio.sleep(0.02)
            if number == 30:
                process.signal()
                while (ready := await client.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.01)
                assert ready.status_code == 503 and ready.json()["reason"] == "draining"
        # new work was taken while load balancers learn, and all of it was answered
        assert set(await asyncio.gather(*tasks)) == reasons
    assert await asyncio.to_thread(process.exit_code) == 0


def test_a_hung_engine_fails_liveness_and_then_ends_the_process(start_process):
    process = start_process("--port", "0", "--watchdog-s", "20", script={"stalled_s": 30})
    url = process.ready()
    response = httpx.get(f"{url}/livez", timeout=60)
    assert response.status_code == 503 and response.json()["error"]["code"] == "stalled"
    assert process.process.poll() is None
    hung = start_process("--port", "0", "--watchdog-s", "20", script={"stalled_s": 50})
    assert hung.exit_code() == 70
    assert json.loads(hung.stderr.splitlines()[-1])["level"] == "critical"


async def test_an_engine_that_hangs_in_a_step_is_noticed(serve, tiny_model_dir):
    backend = LocalBackend(str(tiny_model_dir), device="cpu", threads=1)
    api = await serve(backend, watchdog_s=0.2)
    assert (await api.client.get("/livez")).status_code == 200
    go_on = threading.Event()
    compute = backend._runner.forward
    backend._runner.forward = lambda work: go_on.wait() and compute(work)
    try:
        call = asyncio.create_task(api.client.post("/complete", json={"code": "x"}))
        await asyncio.sleep(0.6)
        assert (await api.client.get("/livez")).status_code == 503
    finally:
        go_on.set()
    assert (await call).status_code == 200
    assert (await api.client.get("/livez")).status_code == 200


async def test_nothing_of_aborted_streams_runs_or_waits_a_moment_later(live, tiny_model_dir):
    backend = LocalBackend(str(tiny_model_dir), device="cpu", threads=1)
    api = await live(backend, max_tokens_limit=10_000, max_queue=100)
    body = {"prompt": "def f(", "max_tokens": 10_000, "stream": True, "temperature": 2}
    for _ in tries():  # what is asked for is 100 ms, of a machine that is not busy otherwise
        async with httpx.AsyncClient(base_url=api.url, timeout=120) as client:
            calls = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in range(20)]
            async with asyncio.timeout(60):
                while backend.gauges()["num_requests_running"] < 10:
                    await asyncio.sleep(0.002)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        start = time.monotonic() - starved_s()
        async with asyncio.timeout(60):
            while any(backend.gauges()[f"num_requests_{state}"] for state in ("running", "waiting")):
                await asyncio.sleep(0.002)
        if time.monotonic() - starved_s() - start < 0.1:
            break
    assert not api.service._runs and api.service.admission.tokens == 0
