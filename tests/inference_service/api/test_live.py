"""Over a real socket: the official client, and what happens when the client goes away."""

import asyncio
import contextlib
import json
import re
import time

import httpx
import openai
import pytest

from tests.tries import starved_s, tries


async def within(seconds, condition):
    """Wait until `condition()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


async def test_official_client_whole_and_streamed(live):
    api = await live()
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none") as client:
        whole = await client.completions.create(model="nano", prompt="def f(", suffix="\n", logprobs=1, n=2)
        assert [choice.text for choice in whole.choices] == [" w0 w1 w2"] * 2
        assert whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens == 16
        assert whole.choices[0].logprobs.tokens == [" w0", " w1", " w2"]

        stream = await client.completions.create(
            model="nano", prompt="x", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == " w0 w1 w2"
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 4

        assert [model.id async for model in client.models.list()] == ["nano"]
        assert (await client.models.retrieve("nano")).owned_by == "midfill"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


async def test_official_client_reaches_every_parameter(live):
    api = await live()
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none") as client:
        answer = await client.completions.create(
            model="nano",
            prompt=["a", "b"],
            best_of=2,
            echo=True,
            frequency_penalty=0,
            logit_bias={"50256": -100},
            logprobs=2,
            max_tokens=4,
            n=1,
            presence_penalty=0,
            seed=7,
            stop=["\n"],
            suffix="c",
            temperature=0.2,
            top_p=0.9,
            user="someone",
            extra_body={"mode": "line", "session": "doc"},
        )
        assert [choice.text for choice in answer.choices] == ["a w0 w1 w2", "b w0 w1 w2"]
        assert {request.mode for request in api.backend.requests} == {"line"}
        with pytest.raises(openai.BadRequestError, match="token ids"):
            await client.completions.create(model="nano", prompt=[1, 2])
        stream = await client.completions.create(model="nano", prompt="x", stream=True, max_tokens=2)
        async with stream:
            async for _ in stream:
                break


async def test_official_client_understands_our_errors(live):
    api = await live(max_queue=1)
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.completions.create(model="other", prompt="x")
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as bad:
            await client.completions.create(model="nano", prompt="x", max_tokens=100_000)
        assert bad.value.param == "max_tokens"
        with pytest.raises(openai.APIError, match="internal error"):
            async for _ in await client.completions.create(model="nano", prompt="LATE FAULT", stream=True):
                pass


async def test_chunks_arrive_as_they_are_made(live, scripted):
    api = await live(scripted(tokens=5, interval_s=0.05))
    for _ in tries():
        times = []
        async with api.client.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as response:
            async for _ in response.aiter_lines():
                times.append(time.monotonic())
        if times[-1] - times[0] > 0.15:
            break


@pytest.mark.parametrize(
    ("route", "body", "stage"),
    [
        ("/v1/completions", {"prompt": "x", "max_tokens": 500}, "decode"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 500, "stream": True}, "decode"),
        ("/v1/completions", {"prompt": ["x"] * 3, "n": 4, "max_tokens": 500}, "decode"),
        ("/complete", {"code": "x", "max_tokens": 500}, "decode"),
        ("/complete/batch", {"requests": [{"code": "x", "max_tokens": 500}] * 20}, "decode"),
        ("/v1/completions", {"prompt": "x"}, "waiting"),
        ("/v1/completions", {"prompt": "x", "stream": True}, "waiting"),
    ],
)
async def test_work_ends_when_the_client_leaves(live, scripted, route, body, stage):
    waiting = stage == "waiting"
    for _ in tries():
        api = await live(scripted(tokens=500, interval_s=0.01, prefill_s=300 if waiting else 0))
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            call = asyncio.create_task(client.post(route, json=body))
            await asyncio.wait_for(api.backend.started.wait(), 60)
            await asyncio.sleep(0.05)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            left = time.monotonic() - starved_s()
            await within(60, lambda api=api: not api.backend.running)
            if time.monotonic() - starved_s() - left < 0.2:  # an abort is to be felt at once
                break
    started = len(api.backend.requests)
    assert sorted(api.backend.aborted) == sorted(request.id for request in api.backend.requests)
    await asyncio.sleep(0.03)
    assert len(api.backend.requests) == started, "nothing that was waiting starts afterwards"
    page = api.service.metrics.render().decode()
    assert re.search(rf'midfill_aborted_total{{stage="{stage}"}} [1-9]', page), "they are counted by stage"
    assert 'midfill_requests_total{status="499"} 1.0' in page
    assert "midfill_active_requests 0.0" in page


async def test_half_sent_body_takes_no_slot(live):
    api = await live(max_queue=1)
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"code"')
    await writer.drain()
    assert (await api.client.post("/complete", json={"code": "x"})).status_code == 200
    writer.close()
    await within(60, lambda: 'status="499"' in api.service.metrics.render().decode())


async def test_slow_reader_does_not_stop_the_others(live, scripted):
    api = await live(scripted(tokens=512))
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1)
    body = json.dumps({"prompt": "x", "n": 8, "max_tokens": 512, "stream": True, "logprobs": 1}).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    await asyncio.wait_for(api.backend.started.wait(), 60)
    response = await asyncio.wait_for(api.client.post("/complete", json={"code": "x"}), 60)
    assert response.status_code == 200
    writer.close()
    await within(60, lambda: not api.service.metrics.active_requests._value.get())
