"""Completions beside others of the same moment: the newest wins, limits hold, what is cancelled ends."""

import asyncio
import json

import pytest

ROUTE = "/v1/completions"


def events(text: str) -> list:
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


async def post(api, **body):
    return await api.client.post(ROUTE, json=body)


@pytest.mark.parametrize("stream", [False, True])
async def test_newest_of_a_session_wins(serve, scripted, stream):
    api = await serve(scripted(tokens=40, interval_s=0.005))
    older = asyncio.create_task(post(api, prompt="x", session="doc", stream=stream, max_tokens=40))
    await api.backend.started.wait()
    newer = await post(api, prompt="xy", session="doc")
    assert newer.json()["choices"][0]["finish_reason"] == "length"
    response = await older
    if stream:
        assert events(response.text)[-1]["choices"][0]["finish_reason"] == "superseded"
    else:
        assert response.status_code == 409 and response.json()["error"]["code"] == "superseded"


async def test_siblings_of_a_superseded_choice_end_too(serve, scripted):
    api = await serve(scripted(tokens=400, interval_s=0.01))
    older = asyncio.create_task(post(api, prompt="x", session="doc", n=3, max_tokens=400))
    while len(api.backend.running) < 3:
        await asyncio.sleep(0)
    await post(api, prompt="xy", session="doc", max_tokens=1)
    assert (await asyncio.wait_for(older, 60)).status_code == 409
    assert len(api.backend.aborted) == 2 and not api.backend.running


async def test_saturation_is_503_with_retry_after_and_passes(serve, scripted):
    api = await serve(scripted(tokens=40, held=True), max_queue=2)
    busy = [asyncio.create_task(post(api, prompt="x", max_tokens=40)) for _ in range(2)]
    while len(api.backend.running) < 2:
        await asyncio.sleep(0)
    for stream in (False, True):
        refused = await post(api, prompt="x", stream=stream)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "saturated"
        assert int(refused.headers["retry-after"]) >= 1
    ready = await api.client.get("/readyz")
    assert ready.status_code == 503 and ready.json()["reason"] == "saturated"
    api.backend.released.set()
    assert [response.status_code for response in await asyncio.gather(*busy)] == [200, 200]
    assert (await post(api, prompt="x")).status_code == 200
    assert (await api.client.get("/readyz")).status_code == 200


async def test_a_request_of_many_choices_does_not_fill_the_queue(serve, scripted):
    api = await serve(scripted(tokens=2, interval_s=0.005), max_queue=12)
    big = asyncio.create_task(post(api, prompt=["p"] * 8, n=8))
    await api.backend.started.wait()
    assert (await post(api, prompt="x")).status_code == 200
    assert len((await big).json()["choices"]) == 64
    assert api.backend.most_running <= 9


@pytest.mark.parametrize("n", [1, 20])
async def test_delete_cancels_once(serve, scripted, n):
    api = await serve(scripted(tokens=400, interval_s=0.005))
    prompts = ["x"] * n
    running = asyncio.create_task(post(api, prompt=prompts, max_tokens=400, stream=True))
    await api.backend.started.wait()
    completion_id = api.backend.requests[0].id
    first = await api.client.delete(f"{ROUTE}/{completion_id}")
    assert first.status_code == 200 and first.json() == {"id": completion_id, "cancelled": True}
    chunks = events((await asyncio.wait_for(running, 60)).text)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert reasons == ["cancelled"] * n
    second = await api.client.delete(f"{ROUTE}/{completion_id}")
    assert second.status_code == 200 and second.json()["cancelled"] is False


async def test_tokens_are_reserved_before_the_backend_sees_the_prompt(serve, scripted):
    api = await serve(scripted(tokens=40, held=True), max_reserved_tokens=700)
    busy = asyncio.create_task(post(api, prompt="x" * 900, max_tokens=40))
    await api.backend.started.wait()
    crowded = [asyncio.create_task(post(api, prompt="z" * 600, max_tokens=50)) for _ in range(5)]
    while sum(answer.done() for answer in crowded) < 4:
        await asyncio.sleep(0)
    api.backend.released.set()
    crowd = await asyncio.gather(*crowded)
    codes = [answer.status_code for answer in crowd]
    assert set(codes) == {200, 503} and codes.count(200) == 1
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in crowd if answer.status_code == 503)
    assert len(api.backend.requests) == 1 + codes.count(200)
    assert (await busy).status_code == 200
    assert "midfill_reserved_tokens 0.0" in (await api.client.get("/metrics")).text


async def test_a_wait_beyond_the_deadline_is_503_at_once(serve, scripted):
    api = await serve(scripted(held=True))
    first = asyncio.create_task(post(api, prompt="x" * 3000))
    await api.backend.started.wait()
    await asyncio.sleep(0.2)
    refused = await post(api, prompt="x", deadline_ms=5)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "saturated"
    api.backend.released.set()
    assert (await post(api, prompt="x", deadline_ms=60_000)).status_code == 200
    assert (await first).status_code == 200
