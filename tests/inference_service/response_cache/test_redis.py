"""Replicas share answers through a real Redis, and go on without it."""

import asyncio
import signal
import socket
import time

import pytest
from redis.asyncio import Redis

from inference_service.engine.request import CompletionRequest
from inference_service.response_cache import CachedBackend, ResponseCache
from inference_service.response_cache import cache as cache_module
from inference_service.settings import SettingsError
from tests.inference_service.response_cache.test_typing import Model, answer


async def ask(cached, prompt="d["):
    found = await answer(cached, CompletionRequest(prompt=prompt, max_tokens=200, mode="line"))
    await asyncio.sleep(0.05)
    return found


async def test_what_one_replica_computed_another_one_answers(redis_server, monkeypatch):
    monkeypatch.setattr(cache_module, "_REDIS_TIMEOUT_S", 30)
    caches = [ResponseCache(1 << 20, 60, redis_server.url) for _ in range(2)]
    models = [Model(), Model()]
    one, two = (CachedBackend(model, cache) for model, cache in zip(models, caches, strict=True))
    text, _ = await ask(one)
    async with Redis.from_url(redis_server.url) as client, asyncio.timeout(60):
        while not await client.dbsize():  # it is shared in the background
            await asyncio.sleep(0.02)
    assert await ask(two) == (text, "stop")
    assert await ask(two, "d[" + text[:2]) == (text[2:], "stop")
    assert [model.computed for model in models] == [1, 0]
    for cache in caches:
        await cache.close()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_redis_it_goes_on(redis_server, end):
    """Gone, or there and silent: neither is waited for by every request."""
    model, cache = Model(), ResponseCache(1 << 20, 60, redis_server.url)
    cached = CachedBackend(model, cache)
    first = await ask(cached)
    redis_server.signal(end)
    begun = time.monotonic()
    for number in range(50):
        await ask(cached, f"{number} b(")
    assert time.monotonic() - begun < 10, "the time-out is paid once, not fifty times"
    assert await ask(cached) == first and model.computed == 51
    gauges = cache.gauges()
    assert gauges["response_cache_faults_total"] >= 1 and gauges["response_cache_redis_up"] == 0
    await cache.close()


async def test_an_address_that_is_never_there_is_no_fault_of_a_request():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cached = CachedBackend(Model(), ResponseCache(1 << 20, 60, f"redis://127.0.0.1:{port}"))
    assert (await ask(cached))[1] == "stop"


def test_an_address_that_is_none_is_told():
    with pytest.raises(SettingsError, match="redis must be redis://"):
        ResponseCache(1 << 20, 60, "localhost:6379")
