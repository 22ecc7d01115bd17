"""Whatever is typed, an answer from the cache is the answer that would have been computed."""

import asyncio
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from inference_service.backends.base import ModelCard
from inference_service.engine.request import Chunk, CompletionRequest, Stats
from inference_service.engine.stopping import StopDetector
from inference_service.response_cache import CachedBackend, ResponseCache

ALPHABET = "ab  \n\n(x)#"
END = len(ALPHABET)


class Model:
    """A greedy model whose tokens are characters: the next one depends on the text before it and on nothing else."""

    def __init__(self, version="1"):
        self.model = ModelCard("characters", version, 1024, True)
        self.computed = 0

    def gauges(self):
        return {}

    def cancel(self, _):
        return False

    async def complete(self, request):
        self.computed += 1
        stopping = StopDetector(request.prompt, request.mode, request.stop)
        text, generated, reason = request.prompt, 0, None
        while reason is None:
            seen = f"{self.model.version}{request.suffix}{text[-4:]}".encode()
            number = hashlib.sha256(seen).digest()[0] % (END + 1)
            if number == END:
                reason = "stop"
                break
            character = ALPHABET[number]
            text += character
            generated += 1
            send, ended = stopping.push(character)
            yield Chunk(send, ((character, -0.5),))
            reason = "stop" if ended else "length" if generated >= request.max_tokens else None
        yield Chunk(stopping.finish(), finish_reason=reason, stats=Stats(prompt_tokens=len(request.prompt)))


async def answer(backend, request):
    chunks = [chunk async for chunk in backend.complete(request)]
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish_reason


keys_pressed = st.one_of(
    st.integers(1, 8),  # so many characters of what was shown
    st.sampled_from(["", "a", " ", "\n", "(", "ab x"]),  # something else
    st.just("backspace"),
)


@given(
    start=st.sampled_from(["", "a", "    ", "def f(x):\n    ", "x\n\n", "if a:\n  b ("]),
    mode=st.sampled_from(["auto", "line", "block"]),
    stop=st.sampled_from([(), ("b",), ("x)", "#")]),
    max_tokens=st.sampled_from([3, 20, 200]),
    suffix=st.sampled_from([None, "", "\n)"]),
    typing=st.lists(keys_pressed, min_size=1, max_size=12),
)
def test_typing_gives_what_would_have_been_computed(start, mode, stop, max_tokens, suffix, typing):
    async def check():
        plain, cached = Model(), CachedBackend(Model(), ResponseCache(1 << 20, 60))
        prompt = start
        for pressed in [0, *typing]:
            fields = {"prompt": prompt, "suffix": suffix, "mode": mode, "stop": stop, "max_tokens": max_tokens}
            found = await answer(cached, CompletionRequest(**fields))
            await asyncio.sleep(0)  # what was computed is kept in the background
            assert found == await answer(plain, CompletionRequest(**fields))
            if pressed == "backspace":
                prompt = prompt[:-1]
            else:
                prompt += pressed if isinstance(pressed, str) else found[0][:pressed]

    asyncio.run(check())


async def test_a_line_that_is_typed_is_computed_once():
    model = Model()
    cache = ResponseCache(1 << 20, 60)
    cached = CachedBackend(model, cache)
    text, _ = await answer(cached, CompletionRequest(prompt="d[", max_tokens=200, mode="line"))
    assert len(text) > 3
    await asyncio.sleep(0)
    for typed in range(1, len(text) + 1):
        rest = await answer(cached, CompletionRequest(prompt="d[" + text[:typed], max_tokens=200, mode="line"))
        assert rest == (text[typed:], "stop")
    assert model.computed == 1
    assert cache.gauges()["response_cache_typed_hits_total"] == len(text)


async def test_logprobs_and_counts_are_of_what_is_left():
    cached = CachedBackend(Model(), ResponseCache(1 << 20, 60))
    text, _ = await answer(cached, CompletionRequest(prompt="d[", max_tokens=200, mode="line"))
    await asyncio.sleep(0)
    request = CompletionRequest(prompt="d[" + text[:2], max_tokens=200, mode="line")
    first, last = [chunk async for chunk in cached.complete(request)]
    assert "".join(piece for piece, _ in first.token_logprobs).startswith(text[2:])
    assert last.stats.response_cached and last.stats.mean_logprob == -0.5
    assert last.stats.completion_tokens == len(first.token_logprobs)


@given(
    other=st.sampled_from(
        [
            {"tenant": "another"},
            {"suffix": "other"},
            {"path": "b.py"},
            {"max_tokens": 7},
            {"mode": "block"},
            {"stop": ("z",)},
            {"temperature": 1.0},
            {"temperature": 1.0, "seed": 2},
        ]
    )
)
def test_nothing_is_shared_across_tenants_or_parameters(other):
    async def check():
        model = Model()
        cached = CachedBackend(model, ResponseCache(1 << 20, 60))
        base = {"prompt": "d[", "tenant": "one", "path": "a.py"}
        await answer(cached, CompletionRequest(**base))
        await asyncio.sleep(0)
        await answer(cached, CompletionRequest(**base | other))
        assert model.computed == 2

    asyncio.run(check())


async def test_another_version_has_answers_of_its_own():
    cache = ResponseCache(1 << 20, 60)
    one, two = Model("1"), Model("2")
    for model in (one, two):
        await answer(CachedBackend(model, cache), CompletionRequest(prompt="d["))
        await asyncio.sleep(0)
    assert (one.computed, two.computed) == (1, 1)


async def test_memory_is_bounded():
    cache = ResponseCache(20_000, 60)
    cached = CachedBackend(Model(), cache)
    for number in range(300):
        await answer(cached, CompletionRequest(prompt=f"{number} a(", max_tokens=50))
        await asyncio.sleep(0)
    assert 10_000 < cache.gauges()["response_cache_bytes"] <= 20_000


async def test_what_is_old_is_computed_again():
    model = Model()
    cached = CachedBackend(model, ResponseCache(1 << 20, ttl_s=0.05))
    for _ in range(2):
        await answer(cached, CompletionRequest(prompt="d["))
        await asyncio.sleep(0.1)
    assert model.computed == 2
