"""The HTTP side on top of the local engine with a tiny random model."""

import asyncio
import json
import time

import httpx
import pytest

from inference_service.__main__ import main
from inference_service.backends.local import LocalBackend
from tests.tries import starved_s, tries

PROMPT = "def add(a, b):\n    return "


@pytest.fixture
def engine(tiny_model_dir):
    return LocalBackend(str(tiny_model_dir), device="cpu", threads=1)


async def test_streamed_and_whole_answers_agree(serve, engine):
    api = await serve(engine)
    body = {"prompt": PROMPT, "suffix": "\n", "max_tokens": 8, "temperature": 0, "logprobs": 1}
    whole = (await api.client.post("/v1/completions", json=body)).json()
    streamed = (await api.client.post("/v1/completions", json=body | {"stream": True})).text
    chunks = [json.loads(line[6:]) for line in streamed.split("\n\n") if line and line != "data: [DONE]"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert whole["usage"]["prompt_tokens"] > 0
    assert 0 < whole["usage"]["completion_tokens"] <= 8
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert chunks[-1]["usage"]["cached_tokens"] > 0, "the second time the prompt is in the cache"
    assert whole["midfill"]["mean_logprob"] < 0 and whole["midfill"]["prefill_ms"] > 0


async def test_odd_text_is_completed(serve, engine):
    api = await serve(engine)
    for prompt in ("", "\0", "é😀\u2028", "x" * 50_000, "<fim_middle><file_sep>"):
        body = {"prompt": prompt, "max_tokens": 2, "context": [{"path": "a.py", "text": prompt}]}
        response = await api.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text


async def test_a_sentinel_that_somebody_writes_is_text(serve, engine):
    """Else a file could end the prompt where it likes, and speak to the model from there."""
    api = await serve(engine, response_cache_mb=0)

    async def tokens(prompt, **more):
        body = {"prompt": prompt, "max_tokens": 1, **more}
        return (await api.client.post("/v1/completions", json=body)).json()["usage"]["prompt_tokens"]

    for sentinel in ("<fim_middle>", "<fim_prefix>", "<fim_suffix>", "<file_sep>", "<|endoftext|>"):
        for fields in ({}, {"suffix": "x"}):
            assert await tokens(f"a = {sentinel} ", **fields) - await tokens("a =  ", **fields) > 1
        assert await tokens("a", suffix=sentinel) - await tokens("a", suffix="") > 1
        context = [{"path": "b.py", "text": sentinel}]
        assert await tokens("a", context=context) - await tokens("a", context=[{"path": "b.py", "text": ""}]) > 1


async def test_work_ends_when_the_client_leaves(live, engine):
    api = await live(engine, max_tokens_limit=10_000)
    stopped = []
    for number in tries():
        stream = number % 2 == 1
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            body = {"prompt": PROMPT, "max_tokens": 10_000, "stream": stream, "temperature": 2}
            call = asyncio.create_task(client.post("/v1/completions", json=body))
            while not engine.gauges()["num_requests_running"]:
                await asyncio.sleep(0.001)
                assert not call.done(), "the model ended before the client left"
            call.cancel()
        left = time.monotonic() - starved_s()
        while engine.gauges()["num_requests_running"]:
            await asyncio.sleep(0.002)
        if time.monotonic() - starved_s() - left < 0.5:
            stopped.append(stream)
        if {False, True} <= set(stopped):
            break


def test_process_with_a_model_directory(start_process, tiny_model_dir):
    flags = ("--port", "0", "--model", str(tiny_model_dir), "--device", "cpu", "--threads", "1")
    process = start_process(*flags, program=("-m", "inference_service"))
    url = process.ready()
    answer = httpx.post(f"{url}/complete", json={"code": PROMPT, "max_tokens": 4}, timeout=60).json()
    assert answer["tokens"] > 0
    assert httpx.get(f"{url}/health", timeout=60).json() == {"status": "ok", "model_loaded": True, "device": "cpu"}
    process.signal()
    assert process.exit_code() == 0


def test_missing_model_is_one_sentence_and_exit_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("inference_service.logs.configure", lambda *_: None)  # it is for a process of its own
    missing = str(tmp_path / "missing")
    assert main(["--port", "0", "--model", missing]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"midfill-serve: cannot serve the model {missing!r}: ")
