"""The engine on a real (tiny) model: same text by every way, and nothing runs on for nobody."""

import asyncio
import codecs
import time

import pytest
import torch

from inference_service.backends.local import LocalBackend
from inference_service.engine.engine import Engine
from inference_service.engine.request import CompletionRequest
from inference_service.engine.runner import Runner
from inference_service.model import directory

PREFIX = "import os\n\n\ndef read(path):\n    with open(path) as file:\n        "


class FloatRunner(Runner):
    """float32 activations: what rounding them depends on, the company in a step, must not blur what is tested."""

    def __init__(self, loaded):
        super().__init__(loaded, "cpu", 1)
        self._model = loaded.build_float()


@pytest.fixture(scope="module")
def loaded(tiny_model_dir):
    return directory.load(tiny_model_dir)


@pytest.fixture
def engine(loaded):
    engine = Engine(FloatRunner(loaded), loaded.tokenizer)
    yield engine
    engine.stop()


class Run:
    """One submitted request and what came out of it."""

    def __init__(self, engine, **fields):
        self.request = CompletionRequest(**fields)
        self.chunks = []
        self._done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def emit(chunk):
            loop.call_soon_threadsafe(self._take, chunk)

        engine.submit(self.request, emit)

    def _take(self, chunk):
        self.chunks.append(chunk)
        if chunk.finish_reason:
            self._done.set()

    async def result(self):
        await asyncio.wait_for(self._done.wait(), 60)
        return "".join(chunk.text for chunk in self.chunks), self.chunks[-1].finish_reason

    async def first_text(self):
        while not self.chunks:
            await asyncio.sleep(0.001)

    @property
    def stats(self):
        return self.chunks[-1].stats


def naive_greedy(loaded, tokens, count):
    """The plain twin: a full forward pass a token."""
    model, out = loaded.build_float(), []
    with torch.inference_mode():
        for _ in range(count):
            token = int(model(torch.tensor([tokens + out]))[0, -1].argmax())
            if loaded.tokenizer.is_sentinel(token):
                break
            out.append(token)
    # like the engine, without a character that is not complete
    text = b"".join(map(loaded.tokenizer.token_bytes, out))
    return codecs.getincrementaldecoder("utf-8")("replace").decode(text)


async def test_greedy_text_is_that_of_the_naive_loop(engine, loaded):
    text, _ = await Run(engine, prompt="a = 1\n", max_tokens=12).result()
    # the prompt ends with a line break, so nothing is healed and the naive loop applies as it is
    assert text == naive_greedy(loaded, loaded.tokenizer.encode("a = 1\n"), 12)


async def test_cache_state_and_company_do_not_change_the_text(engine):
    fields = {"prompt": PREFIX, "suffix": "\n", "max_tokens": 16}
    cold, _ = await Run(engine, **fields).result()
    warm = Run(engine, **fields)
    assert (await warm.result())[0] == cold
    assert warm.stats.cached_tokens == warm.stats.prompt_tokens - 1
    company = [Run(engine, prompt=PREFIX * n, max_tokens=16) for n in range(2, 6)]
    again = Run(engine, **fields)
    assert (await again.result())[0] == cold
    await asyncio.gather(*(run.result() for run in company))


async def test_long_prompts_in_chunks_give_the_same_text(engine, loaded, monkeypatch):
    prompt = PREFIX * 8
    whole, _ = await Run(engine, prompt=prompt, max_tokens=8).result()
    monkeypatch.setattr("inference_service.engine.engine.MAX_STEP_TOKENS", 7)
    other = Engine(FloatRunner(loaded), loaded.tokenizer)
    chunked, _ = await Run(other, prompt=prompt, max_tokens=8).result()
    other.stop()
    assert chunked == whole


async def test_typing_on_prefills_only_what_is_new(engine):
    first = Run(engine, prompt=PREFIX + "data", suffix="\n", max_tokens=4)
    await first.result()
    second = Run(engine, prompt=PREFIX + "data = ", suffix="\n", max_tokens=4)
    await second.result()
    assert second.stats.prompt_tokens - second.stats.cached_tokens <= 4


async def test_accepted_text_is_already_in_the_cache(engine):
    first = Run(engine, prompt=PREFIX, suffix="", max_tokens=16)
    text, _ = await first.result()
    second = Run(engine, prompt=PREFIX + text, suffix="", max_tokens=4)
    await second.result()
    # all but the token at the old cursor, with which the new text may have merged
    assert second.stats.cached_tokens >= first.stats.prompt_tokens - 1


async def test_the_typed_word_is_never_sent_again(engine, loaded):
    for typed in ("retur", "self.na", "x = ", "é"):
        text, _ = await Run(engine, prompt=f"def f(self):\n    {typed}", max_tokens=6).result()
        tokens = loaded.tokenizer.encode(typed + text)
        assert loaded.tokenizer.decode(tokens) == typed + text


async def test_max_tokens_and_finish_reason(engine):
    run = Run(engine, prompt=PREFIX, max_tokens=3)
    _, reason = await run.result()
    assert (reason, run.stats.completion_tokens) == ("length", 3)
    assert run.stats.mean_logprob < 0


async def test_a_seed_gives_the_same_text_in_any_company(engine):
    fields = {"prompt": PREFIX, "max_tokens": 12, "temperature": 1.0, "top_k": 50, "top_p": 0.95, "seed": 7}
    alone, _ = await Run(engine, **fields).result()
    company = [Run(engine, prompt=PREFIX, max_tokens=12, temperature=1.0) for _ in range(3)]
    again, _ = await Run(engine, **fields).result()
    await asyncio.gather(*(run.result() for run in company))
    other, _ = await Run(engine, **(fields | {"seed": 8})).result()
    assert again == alone
    assert other != alone


async def test_the_newest_request_of_a_session_wins(engine):
    old = Run(engine, prompt=PREFIX, max_tokens=200, session="doc")
    other = Run(engine, prompt=PREFIX, max_tokens=5, session="another doc")
    await old.first_text()
    new = Run(engine, prompt=PREFIX, max_tokens=5, session="doc")
    assert (await old.result())[1] == "superseded"
    assert (await new.result())[1] == "length"
    assert (await other.result())[1] == "length"


async def test_who_types_on_in_a_long_queue_is_answered_in_turn(loaded, monkeypatch):
    monkeypatch.setattr("inference_service.engine.engine.MAX_SEQUENCES", 1)
    engine = Engine(FloatRunner(loaded), loaded.tokenizer)
    order = []
    busy = Run(engine, prompt=PREFIX, max_tokens=150)
    await busy.first_text()
    runs = [Run(engine, prompt=PREFIX + "a", max_tokens=5, session="doc"), Run(engine, prompt=PREFIX, max_tokens=5)]
    runs += [Run(engine, prompt=PREFIX + typed, max_tokens=5, session="doc") for typed in ("ab", "abc")]

    async def watch(run, name):
        order.append((name, (await run.result())[1]))

    await asyncio.gather(*(watch(run, name) for name, run in enumerate(runs)))
    await busy.result()
    engine.stop()
    assert [name for name, reason in order if reason == "length"] == [3, 1]


async def test_cancel_while_running_and_while_waiting(engine):
    runs = [Run(engine, prompt=PREFIX, max_tokens=200) for _ in range(80)]  # more than run at once
    await runs[0].first_text()
    for run in runs:
        assert engine.cancel(run.request.id)
    assert {(await run.result())[1] for run in runs} == {"cancelled"}
    assert not engine.cancel(runs[0].request.id)
    assert engine.num_running == engine.num_waiting == 0


async def test_a_deadline_returns_what_there_is(engine):
    run = Run(engine, prompt=PREFIX, max_tokens=200, deadline=time.monotonic() + 0.01)
    _, reason = await run.result()
    assert reason == "deadline"


async def test_stopping_the_engine_ends_requests_with_shutdown(loaded):
    engine = Engine(FloatRunner(loaded), loaded.tokenizer)
    run = Run(engine, prompt=PREFIX, max_tokens=400)
    await run.first_text()
    await asyncio.to_thread(engine.stop)
    assert (await run.result())[1] == "shutdown"


async def test_closing_the_stream_frees_the_engine(tiny_model_dir):
    backend = LocalBackend(str(tiny_model_dir), device="cpu")
    await backend.start()
    stream = backend.complete(CompletionRequest(PREFIX, max_tokens=400))
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(60):
        while backend.gauges()["num_requests_running"]:
            await asyncio.sleep(0.001)
    await backend.stop()


class FaultyRunner(FloatRunner):
    """Faulty for one tenant."""

    def __init__(self, loaded, fault):
        super().__init__(loaded)
        self._fault = fault

    def forward(self, work):
        logits = super().forward(work)
        for row, item in zip(logits, [one for one in work for _ in range(one.logits)], strict=True):
            if item.sequence.root[0] == "unlucky":
                self._fault(row)
        return logits


def out_of_memory(_row):
    raise MemoryError("no memory")


@pytest.mark.parametrize("fault", [out_of_memory, lambda row: row.fill_(float("nan"))])
async def test_a_fault_in_one_request_leaves_the_others_alone(loaded, fault):
    engine = Engine(FaultyRunner(loaded, fault), loaded.tokenizer)
    good = Run(engine, prompt=PREFIX, max_tokens=30)
    bad = Run(engine, prompt=PREFIX, max_tokens=30, tenant="unlucky")
    assert (await bad.result())[1] == "error"
    assert bad.chunks[-1].error
    text, reason = await good.result()
    engine.stop()
    assert reason == "length"
    healthy = Engine(FloatRunner(loaded), loaded.tokenizer)
    assert (await Run(healthy, prompt=PREFIX, max_tokens=30).result())[0] == text
    healthy.stop()


async def test_a_processor_without_the_int8_kernel_is_served_in_float32(tiny_model_dir, monkeypatch):
    monkeypatch.setattr("inference_service.engine.cpu_kernels.int8_linear_works", lambda: False)
    monkeypatch.setattr("inference_service.engine.cpu_kernels.remembered", lambda ways, config: {1: "operators"})
    backend = LocalBackend(str(tiny_model_dir), device="cpu")
    await backend.start()
    chunks = [chunk async for chunk in backend.complete(CompletionRequest(PREFIX, max_tokens=4))]
    kernel = backend.info()["kernel"]
    await backend.stop()
    assert chunks[-1].finish_reason == "length"
    assert kernel.startswith("float32")


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "seed": 5}])
async def test_guessing_ahead_does_not_change_the_text(loaded, monkeypatch, sampling):
    repeating = "def add(a, b):\n    return a + b\n\n\n" * 4
    texts = []
    for sequences in (0, 4):
        monkeypatch.setattr("inference_service.engine.engine.SPECULATING_SEQUENCES", sequences)
        engine = Engine(FloatRunner(loaded), loaded.tokenizer)
        texts.append((await Run(engine, prompt=repeating, max_tokens=40, **sampling).result())[0])
        engine.stop()
    assert texts[0] == texts[1]


async def test_tenants_do_not_share_cached_prompts(engine):
    await Run(engine, prompt=PREFIX, max_tokens=2, tenant="a").result()
    other, same = Run(engine, prompt=PREFIX, max_tokens=2, tenant="b"), Run(engine, prompt=PREFIX, tenant="a")
    await other.result()
    await same.result()
    assert other.stats.cached_tokens == 0 < same.stats.cached_tokens


async def test_choices_of_one_prompt_share_its_prefill(engine):
    runs = [Run(engine, prompt=PREFIX * 4, max_tokens=4, temperature=1.0, seed=n) for n in range(4)]
    for run in runs:
        await run.result()
    fresh = [run.stats.prompt_tokens - run.stats.cached_tokens for run in runs]
    assert sorted(fresh)[:3] == [1, 1, 1]
