"""Quotas of keys: alone, together through a real Redis, and without it again."""

import asyncio
import signal
import time

import httpx
import pytest

from inference_service.__main__ import main
from tests.tries import tries


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/midfill.sqlite"


@pytest.fixture
def make_key(database, capsys):
    def make(*flags):
        capsys.readouterr()
        assert main(["keys", "create", "--owner", "alice", "--database", database, *flags]) == 0
        return {"X-API-Key": capsys.readouterr().out.strip()}

    return make


async def complete(api, key, code="x", max_tokens=50):
    return await api.client.post("/complete", json={"code": code, "max_tokens": max_tokens}, headers=key)


def refused(answer):
    """Retry-After in seconds of a 429 in the contract's shape."""
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "quota_exceeded", None)
    return int(answer.headers["retry-after"])


async def test_requests_a_minute_and_when_to_come_back(serve, make_key, database, monkeypatch):
    key, other = make_key("--requests-per-minute", "3"), make_key("--requests-per-minute", "3")
    api = await serve(database=database)
    begin = time.time()
    for _ in range(3):
        assert (await complete(api, key)).status_code == 200
    again_in = refused(await complete(api, key))
    assert 60 - (time.time() - begin) <= again_in <= 61
    assert (await complete(api, other)).status_code == 200, "quotas are a key's own"
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + again_in)
    assert (await complete(api, key)).status_code == 200


async def test_tokens_are_reserved_before_and_settled_after(serve, make_key, database, scripted):
    # The scripted model takes 10 tokens of prompt and makes 3; reserved are 2 + max_tokens.
    key = make_key("--tokens-per-minute", "100")
    api = await serve(database=database, backend=scripted(prefill_s=0.3))
    together = await asyncio.gather(*(complete(api, key, max_tokens=48) for _ in range(3)))
    assert sorted(answer.status_code for answer in together) == [200, 200, 429]
    for answer in together:
        if answer.status_code == 429:
            assert refused(answer) <= 61 and "100 tokens a minute" in answer.text
    served = 0
    while (answer := await complete(api, key, max_tokens=10)).status_code == 200:
        served += 1
    assert served == 5, "26 + 5 * 13 = 91: the sixth finds less than the 12 that it reserves"
    refused(answer)


async def test_a_request_above_the_whole_window_is_served_once(serve, make_key, database):
    key = make_key("--tokens-per-minute", "20")
    api = await serve(database=database)
    assert (await complete(api, key, max_tokens=500)).status_code == 200
    refused(await complete(api, key, max_tokens=500))


async def test_requests_at_once(serve, make_key, database, scripted):
    key = make_key("--concurrency", "2")
    api = await serve(database=database, backend=scripted(prefill_s=0.5))
    answers = await asyncio.gather(*(complete(api, key) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
    assert refused(max(answers, key=lambda answer: answer.status_code)) == 1
    assert (await complete(api, key)).status_code == 200


async def test_bad_requests_and_aborts_keep_no_place(live, make_key, database, scripted):
    key = make_key("--concurrency", "1")
    api = await live(database=database, backend=scripted(tokens=400, interval_s=0.02))
    assert (await complete(api, key, max_tokens=0)).status_code == 400
    body = {"prompt": "x", "stream": True, "max_tokens": 400}
    async with api.client.stream("POST", "/v1/completions", json=body, headers=key) as answer:
        await answer.aiter_lines().__anext__()
        refused(await complete(api, key))
    async with asyncio.timeout(60):
        while (await complete(api, key, max_tokens=2)).status_code != 200:
            await asyncio.sleep(0.05)


async def test_what_overload_refuses_costs_nothing(serve, make_key, database, scripted):
    key = make_key("--requests-per-minute", "2", "--tokens-per-minute", "200")
    api = await serve(database=database, backend=scripted(held=True), max_queue=1)
    first = asyncio.create_task(complete(api, key, max_tokens=50))
    await api.backend.started.wait()
    for _ in range(3):
        body = {"requests": [{"code": "x", "max_tokens": 20}] * 2}
        shed = await api.client.post("/complete/batch", json=body, headers=key)
        assert shed.status_code == 503
    api.backend.released.set()
    assert (await first).status_code == 200
    assert (await complete(api, key)).status_code == 200
    refused(await complete(api, key))


@pytest.mark.parametrize("with_redis", [False, True])
async def test_a_clock_that_is_set_locks_nobody_out(serve, make_key, database, monkeypatch, request, with_redis):
    redis = {"redis": request.getfixturevalue("redis_server").url} if with_redis else {}
    key = make_key("--requests-per-minute", "1")
    api = await serve(database=database, **redis)
    now = time.time
    for step in (0, 86_400, -86_400, 0):
        monkeypatch.setattr(time, "time", lambda step=step: now() + step)
        answers = [await complete(api, key) for _ in range(3)]
        assert refused(answers[-1]) <= 61, "limited again, and for no longer than a minute"


@pytest.fixture
def two_services(start_process, redis_server, database):
    flags = ("--port", "0", "--database", database, "--redis", redis_server.url)

    def start(prefill_s, key):
        processes = [start_process(*flags, script={"tokens": 3, "prefill_s": prefill_s}) for _ in range(2)]
        urls = [process.ready() for process in processes]
        for url in urls:
            while httpx.get(f"{url}/v1/models", headers=key, timeout=60).status_code == 401:
                time.sleep(0.05)
        return urls

    return start


def posted(url, key):
    return httpx.post(f"{url}/complete", json={"code": "x"}, headers=key, timeout=60)


def test_two_services_count_together(make_key, two_services):
    by_minute = make_key("--requests-per-minute", "5")
    urls = two_services(0.0, by_minute)
    statuses = [posted(urls[number % 2], by_minute).status_code for number in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert refused(posted(urls[0], by_minute)) <= 61


async def test_two_services_count_what_runs_at_once_together(make_key, two_services):
    key = make_key("--concurrency", "3")
    urls = await asyncio.to_thread(two_services, 2.5, key)
    async with httpx.AsyncClient(timeout=60) as client:
        requests = [client.post(f"{urls[number % 2]}/complete", json={"code": "x"}, headers=key) for number in range(8)]
        statuses = [answer.status_code for answer in await asyncio.gather(*requests)]
        assert statuses.count(200) == 3 and statuses.count(429) == 5
        for url in urls:
            answer = await client.post(f"{url}/complete", json={"code": "x"}, headers=key)
            assert answer.status_code == 200


async def degraded(api):
    return (await api.client.get("/readyz")).json().get("degraded", {})


@pytest.mark.parametrize("fault", ["killed", "stopped"])
async def test_redis_goes_and_comes_back(serve, make_key, database, redis_server, fault):
    key = make_key("--requests-per-minute", "3", "--concurrency", "5", "--tokens-per-minute", "100000")
    api = await serve(database=database, redis=redis_server.url)
    for _ in range(3):
        assert (await complete(api, key)).status_code == 200
    refused(await complete(api, key))

    redis_server.kill() if fault == "killed" else redis_server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    statuses = [(await complete(api, key)).status_code for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2, "now this replica counts alone, from nothing"
    assert time.monotonic() - begin < 30, "not for ever"
    assert "keeps the quotas alone" in (await degraded(api))["redis"]
    ready = await api.client.get("/readyz")
    assert ready.status_code == 200 and ready.json()["status"] == "ready"
    assert 'midfill_dependency_up{dependency="redis"} 0.0' in api.service.metrics.render().decode()

    redis_server.start() if fault == "killed" else redis_server.signal(signal.SIGCONT)
    while await degraded(api):
        await asyncio.sleep(0.05)
    assert 'midfill_dependency_up{dependency="redis"} 1.0' in api.service.metrics.render().decode()
    again = (await complete(api, key)).status_code
    assert again == (200 if fault == "killed" else 429), "counted in Redis again"


async def test_redis_that_is_gone_at_the_start_is_found_later(serve, make_key, database, redis_server):
    redis_server.kill()
    key = make_key("--requests-per-minute", "1")
    api = await serve(database=database, redis=redis_server.url)
    assert (await complete(api, key)).status_code == 200
    assert await degraded(api)
    redis_server.start()
    while await degraded(api):
        await asyncio.sleep(0.05)


async def test_a_dead_replica_gives_its_places_back(make_key, database, redis_server, start_process, monkeypatch):
    from inference_service.guard import shared

    monkeypatch.setattr(shared, "_LEASE_S", 2.0)
    dying, living = shared.SharedTally(redis_server.url), shared.SharedTally(redis_server.url)
    for number in tries():
        key, renewed, refused, late = f"key-{number}", time.monotonic(), [], False
        assert await dying.enter(key, "a", 1)
        for _ in range(4):
            refused.append(not await living.enter(key, "b", 1))
            late = late or time.monotonic() - renewed > 2.0
            renewed = time.monotonic()
            await dying.renew([("a", key)])
            await asyncio.sleep(1)
        if not late:
            break
    assert all(refused)
    while not await living.enter(key, "b", 1):
        await asyncio.sleep(0.1)
    await dying.close()
    await living.close()


def test_a_bad_redis_url_is_one_sentence(capsys, database, logging_restored):
    assert main(["--port", "0", "--database", database, "--redis", "http://:secret-word@h"]) == 2
    said = capsys.readouterr().err
    assert "redis must be redis://" in said and "secret-word" not in said and said.count("\n") == 1
