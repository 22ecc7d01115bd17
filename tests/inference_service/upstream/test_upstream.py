"""Our API over servers that others wrote, and over our own."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest

from inference_service.__main__ import main
from inference_service.backends.local import LocalBackend
from inference_service.backends.upstream import UpstreamBackend
from tests.inference_service.upstream.conftest import CONTEXT

PROMPT = "def add(a, b):\n    return "

# Seconds of writing. llama.cpp does not always notice somebody who leaves while it begins: then it goes on to this.
ENDLESS = 3000


async def until(seconds, condition):
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def is_idle(url):
    async with httpx.AsyncClient(
        base_url=url, verify=False, timeout=60
    ) as client:  # reading certificates takes longer than asking
        return not any(slot["is_processing"] for slot in (await client.get("/slots")).json())


async def test_llama_cpp_answers_through_our_api(serve, llama_cpp):
    api = await serve(UpstreamBackend(llama_cpp.url), response_cache_mb=0)
    assert api.service.backend.model.context_length == CONTEXT
    body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": 1}
    whole = (await api.client.post("/v1/completions", json=body)).json()
    choice = whole["choices"][0]
    assert choice["finish_reason"] == "length" and choice["text"]
    assert whole["usage"]["completion_tokens"] == 12 and whole["usage"]["prompt_tokens"] > 3
    # llama.cpp tells tokens that are parts of one character as one
    assert 0 < len(choice["logprobs"]["token_logprobs"]) <= 12 and whole["midfill"]["mean_logprob"] < 0
    async with httpx.AsyncClient(base_url=llama_cpp.url, timeout=60) as direct:
        asked = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
        assert choice["text"] == (await direct.post("/v1/completions", json=asked)).json()["choices"][0]["text"]
    streamed = (await api.client.post("/v1/completions", json=body | {"stream": True, "seed": 1})).text
    chunks = [json.loads(line[6:]) for line in streamed.split("\n\n") if line and line != "data: [DONE]"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == choice["text"] and len(chunks) > 3


async def test_lines_end_where_ours_do(serve, llama_cpp):
    api = await serve(UpstreamBackend(llama_cpp.url), response_cache_mb=0)
    for call in range(40):  # a random model breaks a line now and then
        whole = {"prompt": "def f(", "max_tokens": 60, "temperature": 1.5, "seed": call}
        text = (await api.client.post("/v1/completions", json=whole)).json()["choices"][0]["text"]
        if "\n" in text[1:] and text[0] != "\n":
            break
    else:
        pytest.fail("no completion had two lines")
    line = (await api.client.post("/v1/completions", json=whole | {"mode": "line"})).json()["choices"][0]
    assert (line["text"], line["finish_reason"]) == (text.partition("\n")[0], "stop")
    letter = next(character for character in text if character.isalpha() and text.index(character) > 0)
    cut = (await api.client.post("/v1/completions", json=whole | {"stop": letter})).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (text.partition(letter)[0], "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_llama_cpp_stops_when_our_client_leaves(live, llama_cpp, stream):
    api = await live(UpstreamBackend(llama_cpp.url), max_tokens_limit=100_000)
    body = {"prompt": PROMPT, "max_tokens": ENDLESS, "stream": stream, "temperature": 1.5}
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
        call = asyncio.create_task(client.post("/v1/completions", json=body))
        while await is_idle(llama_cpp.url):
            assert not call.done(), call.result().text
            await asyncio.sleep(0.01)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        left = time.monotonic()

        async def nothing_here():
            return not api.service._runs and not api.service.backend.gauges()["num_requests_running"]

        await until(60, nothing_here)
        here = time.monotonic() - left
        await until(60, lambda: is_idle(llama_cpp.url))
        there = time.monotonic() - left
    print(f"nothing of it ran here after {here * 1e3:.0f} ms, in llama.cpp after {there * 1e3:.0f} ms")


async def test_cancel_supersede_and_deadline_reach_llama_cpp(live, llama_cpp):
    api = await live(UpstreamBackend(llama_cpp.url), max_tokens_limit=100_000)
    endless = {"prompt": PROMPT, "max_tokens": ENDLESS, "temperature": 1.5}
    late = (await api.client.post("/v1/completions", json=endless | {"deadline_ms": 150})).json()
    assert late["choices"][0]["finish_reason"] == "deadline"
    first = asyncio.create_task(api.client.post("/v1/completions", json=endless | {"session": "s"}, timeout=60))
    while await is_idle(llama_cpp.url):  # who leaves before it has begun is not noticed there
        assert not first.done(), first.result().text
        await asyncio.sleep(0.01)
    second = api.client.post("/v1/completions", json=endless | {"session": "s", "max_tokens": 2}, timeout=60)
    assert (await second).status_code == 200 and (await first).status_code == 409
    await until(60, lambda: is_idle(llama_cpp.url))


async def test_llama_cpp_killed_and_started_again(live, llama_cpp):
    api = await live(UpstreamBackend(llama_cpp.url), max_tokens_limit=100_000)
    body = {"prompt": PROMPT, "max_tokens": ENDLESS, "stream": True, "temperature": 1.5}
    async with api.client.stream("POST", "/v1/completions", json=body, timeout=60) as response:
        lines = response.aiter_lines()
        await anext(lines)
        llama_cpp.kill()
        rest = [line async for line in lines if line]
    assert json.loads(rest[-2][6:])["error"]["code"] == "backend_unavailable" and rest[-1] == "data: [DONE]"
    refused = await api.client.post("/v1/completions", json=body)
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1

    async def ready():
        return (await api.client.get("/readyz")).status_code == 200

    assert not await ready()
    await asyncio.to_thread(llama_cpp.start)
    await until(30, ready)
    assert (await api.client.post("/v1/completions", json=body | {"max_tokens": 2})).status_code == 200
    assert "midfill_upstream_up 1.0" in (await api.client.get("/metrics")).text


async def test_a_suffix_needs_a_way_to_say_it(serve, llama_cpp):
    api = await serve(UpstreamBackend(llama_cpp.url))
    refused = await api.client.post("/v1/completions", json={"prompt": "x", "suffix": "y"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "suffix"
    told = await serve(UpstreamBackend(llama_cpp.url, fim="starcoder"))
    answer = await told.client.post(
        "/v1/completions",
        json={"prompt": "x <fim_middle> ", "suffix": "y", "path": "a.py", "context": [{"path": "b.py", "text": "z"}]},
    )
    assert answer.status_code == 200


async def test_a_prompt_that_is_too_long_is_cut(serve, llama_cpp):
    api = await serve(UpstreamBackend(llama_cpp.url))
    answer = await api.client.post("/v1/completions", json={"prompt": "x = 1\n" * 10_000, "max_tokens": 4})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["error"]["param"] == "prompt"


async def test_our_own_service_as_upstream(serve, live, tiny_model_dir):
    engine = LocalBackend(str(tiny_model_dir), device="cpu", threads=1)
    inner = await live(engine, max_tokens_limit=100_000)
    outer = await serve(UpstreamBackend(inner.url), max_tokens_limit=100_000)
    body = {"prompt": PROMPT, "suffix": "\n", "path": "a.py", "max_tokens": 8, "temperature": 0, "mode": "line"}
    answers = [(await api.client.post("/v1/completions", json=body)).json() for api in (inner, outer)]
    texts = [answer["choices"][0]["text"] for answer in answers]
    assert texts[0] == texts[1] and answers[1]["usage"]["prompt_tokens"] == answers[0]["usage"]["prompt_tokens"]
    assert answers[0]["midfill"]["model_version"] == answers[1]["midfill"]["model_version"]
    endless = {"prompt": PROMPT, "max_tokens": 100_000, "deadline_ms": 100, "temperature": 2}
    late = (await outer.client.post("/v1/completions", json=endless)).json()
    assert late["choices"][0]["finish_reason"] in ("deadline", "length", "stop")

    async def idle():
        return engine.gauges()["num_requests_running"] == 0

    await until(60, idle)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_leaves_both_of_two_services(live, tiny_model_dir, stream):
    engine = LocalBackend(str(tiny_model_dir), device="cpu", threads=1)
    inner = await live(engine, max_tokens_limit=100_000)
    outer = await live(UpstreamBackend(inner.url), max_tokens_limit=100_000)
    body = {"prompt": PROMPT, "max_tokens": 100_000, "temperature": 2, "stream": stream}

    async def running():
        return engine.gauges()["num_requests_running"] > 0

    async def nothing():
        return not (await running() or inner.service._runs or outer.service._runs)

    async with httpx.AsyncClient(base_url=outer.url, timeout=60) as client:
        call = asyncio.create_task(client.post("/v1/completions", json=body))
        await until(60, running)
        assert not call.done(), "the model ended before the client left"
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        left = time.monotonic()
        await until(60, nothing)
        print(f"nothing of it ran in both after {(time.monotonic() - left) * 1e3:.0f} ms")


async def test_the_service_waits_for_an_upstream_that_is_not_up_yet(serve):
    api = await serve(UpstreamBackend("http://127.0.0.1:9"), wait=False)
    refused = await api.client.post("/complete", json={"code": "x"})
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "loading"


def test_the_log_has_neither_a_line_for_each_probe_nor_the_password_of_the_upstream(start_process):
    upstream = start_process("--port", "0").ready()
    with_password = upstream.replace("://", "://somebody:secret-word@")
    process = start_process("--port", "0", "--upstream", with_password)
    url = process.ready()
    assert httpx.post(f"{url}/complete", json={"code": "x"}, timeout=60).status_code == 200
    info = httpx.get(f"{url}/info", timeout=60)
    assert info.json()["backend"]["upstream"] == upstream.replace("://", "://somebody:***@")
    process.signal()
    assert process.exit_code() == 0
    events = [json.loads(line)["event"] for line in process.stderr.splitlines()]
    assert events.count("request") == 2 and not [event for event in events if "HTTP" in event]
    assert "secret-word" not in process.stderr + info.text
    missing = start_process("--port", "0", "--upstream", with_password, "--upstream-model", "large")
    assert missing.exit_code() == 1
    assert "does not serve the model 'large'" in missing.stderr and "secret-word" not in missing.stderr


async def test_a_model_that_the_upstream_lacks_is_told(serve, live):
    inner = await live()
    api = await serve(UpstreamBackend(inner.url, model="large"))
    assert str(api.service.load_error) == "the upstream server does not serve the model 'large'; it has nano"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--upstream", "localhost:8080"), "--upstream must be an http:// or https:// address"),
        (("--upstream", "http://x", "--upstream-fim", "magic"), "--upstream-fim must be suffix or one of spm2, qwen"),
        (("--upstream", "http://x", "--upstream-key-file", "/no/key"), "cannot read upstream_key_file /no/key"),
    ],
)
def test_bad_settings_are_one_sentence(capsys, monkeypatch, flags, says):
    monkeypatch.setattr("inference_service.logs.configure", lambda *_: None)  # it is for a process of its own
    assert main(["--port", "0", *flags]) == 2
    assert says in capsys.readouterr().err
