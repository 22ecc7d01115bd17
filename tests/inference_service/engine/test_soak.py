"""A hundred thousand requests, half of them abandoned: nothing stays behind."""

import random
import resource
import threading

import pytest

from inference_service.engine.engine import Engine
from inference_service.engine.request import CompletionRequest
from inference_service.engine.runner import Runner
from inference_service.model import directory

REQUESTS = 100_000


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_memory_and_blocks_are_flat(tiny_model_dir):
    loaded = directory.load(tiny_model_dir)
    engine = Engine(Runner(loaded, "cpu", 1), loaded.tokenizer)
    choose, text = random.Random(0), "def f(x):\n    return x\n" * 30
    running = threading.Semaphore(24)
    reasons: dict[str, int] = {}

    def done(chunk):
        if chunk.finish_reason:
            reasons[chunk.finish_reason] = reasons.get(chunk.finish_reason, 0) + 1
            running.release()

    def burst(count):
        for _ in range(count):
            running.acquire()
            start = choose.randrange(len(text) // 2)
            request = CompletionRequest(text[start:], max_tokens=8, session=f"s{choose.randrange(40)}")
            engine.submit(request, done)
            if choose.random() < 0.5:
                engine.cancel(request.id)

    burst(REQUESTS // 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    burst(REQUESTS // 2)
    for _ in range(24):
        running.acquire()
    assert engine.num_running == engine.num_waiting == engine.gauges()["kv_cache_usage_ratio"] == 0
    assert sum(reasons.values()) == REQUESTS
    assert reasons["cancelled"] > REQUESTS // 4
    assert "error" not in reasons
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB
    engine.stop()
