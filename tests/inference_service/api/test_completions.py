"""The contract of POST /v1/completions and DELETE /v1/completions/{id}."""

import asyncio
import json
import math
import time

import pytest

from inference_service.engine.request import Chunk, ContextFile, Stats

ROUTE = "/v1/completions"


def events(text: str) -> list:
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


async def post(api, **body):
    return await api.client.post(ROUTE, json=body)


async def test_whole_answer_has_openai_shape_and_our_accounting(api):
    response = await post(api, prompt="def f(")
    assert response.status_code == 200
    body = response.json()
    assert body["id"].startswith("cmpl-") and body["object"] == "text_completion" and body["model"] == "nano"
    assert abs(body["created"] - time.time()) < 10
    assert body["choices"] == [{"index": 0, "text": " w0 w1 w2", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "cached_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert body["midfill"] == {
        "mean_logprob": -0.5,
        "queue_ms": 1.0,
        "prefill_ms": 2.0,
        "decode_ms": 3.0,
        "model_version": "0123abcd",
    }


async def test_stream_ends_with_usage_and_done(api):
    response = await post(api, prompt="def f(", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    chunks = events(response.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " w0 w1 w2"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert [chunk["mean_logprob"] for chunk in chunks[:-1]] == 3 * [-0.5]
    assert not any("midfill" in chunk for chunk in chunks[:-1])
    assert chunks[-1]["usage"]["total_tokens"] == 13
    assert chunks[-1]["midfill"]["model_version"] == "0123abcd"


async def test_include_usage_adds_a_chunk_without_choices(api):
    response = await post(api, prompt="x", stream=True, stream_options={"include_usage": True})
    chunks = events(response.text)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop" and chunks[-2]["midfill"]


async def test_defaults_are_openais(api):
    await post(api, prompt="x")
    (request,) = api.backend.requests
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (16, 1.0, 1.0, 0)
    assert (request.suffix, request.seed, request.stop, request.mode) == (None, None, (), "auto")
    assert (request.session, request.deadline, request.context) == (None, None, ())


async def test_every_field_reaches_the_engine(api):
    before = time.monotonic()
    await post(
        api,
        prompt="a",
        suffix="",
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=40,
        seed=11,
        stop="\n\n",
        path="src/a.py",
        language="python",
        context=[{"path": "b.py", "text": "import c"}],
        mode="block",
        session="doc-1",
        deadline_ms=250,
        priority=1,
    )
    (request,) = api.backend.requests
    assert (request.prompt, request.suffix, request.path, request.mode) == ("a", "", "src/a.py", "block")
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (7, 0, 0.5, 40)
    assert (request.seed, request.stop, request.session) == (11, ("\n\n",), ":doc-1")
    assert request.context == (ContextFile("b.py", "import c"),)
    assert before + 0.25 <= request.deadline <= time.monotonic() + 0.25


async def test_session_may_come_as_header(api):
    await api.client.post(ROUTE, json={"prompt": "x"}, headers={"X-Midfill-Session": "doc-2"})
    assert api.backend.requests[0].session == ":doc-2"


async def test_null_is_absent_and_unknown_fields_are_ignored(api):
    response = await post(api, prompt="x", n=None, stop=None, max_tokens=None, best_of=1, logit_bias={"1": 2})
    assert response.status_code == 200
    assert api.backend.requests[0].max_tokens == 16


async def test_prompts_times_n_make_choices_in_order(api):
    body = (await post(api, prompt=["p", "q"], n=2, seed=5, session="s", echo=True)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][0] for choice in body["choices"]] == ["p", "p", "q", "q"]
    assert [request.seed for request in api.backend.requests] == [5, 6, 5, 6]
    # Otherwise the choices of one request would supersede each other.
    assert [request.session for request in api.backend.requests] == [":s", None, None, None]
    assert body["usage"]["prompt_tokens"] == 20 and body["usage"]["completion_tokens"] == 12


async def test_streamed_choices_carry_their_index(api):
    chunks = events((await post(api, prompt=["p", "q"], n=2, stream=True, echo=True)).text)
    texts = dict.fromkeys(range(4), "")
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert list(texts.values()) == ["p w0 w1 w2", "p w0 w1 w2", "q w0 w1 w2", "q w0 w1 w2"]
    assert sum("usage" in chunk for chunk in chunks) == 1


async def test_logprobs_have_openais_shape(api):
    body = (await post(api, prompt="ab", logprobs=1, echo=True)).json()
    assert body["choices"][0]["logprobs"] == {
        "tokens": [" w0", " w1", " w2"],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{" w0": -0.5}, {" w1": -0.5}, {" w2": -0.5}],
        "text_offset": [2, 5, 8],
    }
    chunks = events((await post(api, prompt="ab", logprobs=0, stream=True)).text)
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks]
    assert offsets == [[0], [3], [6], []]
    assert chunks[0]["choices"][0]["logprobs"]["top_logprobs"] is None


async def test_infinite_logprob_stays_valid_json(api, monkeypatch):
    async def certain(request):
        yield Chunk("x", token_logprobs=(("x", -math.inf),))
        stats = Stats(completion_tokens=1, mean_logprob=-math.inf)
        yield Chunk("", finish_reason="stop", stats=stats)

    monkeypatch.setattr(api.backend, "complete", certain)
    for stream in (False, True):
        response = await post(api, prompt="x", logprobs=1, stream=stream)
        assert response.status_code == 200
        assert "Infinity" not in response.text and "-9999.0" in response.text


async def test_deadline_gives_the_part_that_is_there(api, monkeypatch):
    async def late(request):
        yield Chunk("x = 1", token_logprobs=(("x = 1", -1.0),))
        yield Chunk("\n", finish_reason="deadline", stats=Stats(completion_tokens=1))

    monkeypatch.setattr(api.backend, "complete", late)
    response = await post(api, prompt="x", deadline_ms=50)
    assert response.status_code == 200
    assert response.json()["choices"][0]["text"] == "x = 1\n"
    assert response.json()["choices"][0]["finish_reason"] == "deadline"
    assert b"midfill_deadline_partial_total 1.0" in api.service.metrics.render()


async def test_one_failing_prompt_ends_the_others_at_once(serve, scripted):
    api = await serve(scripted(tokens=500, interval_s=0.01))
    body = {"prompt": ["x", "TOO LONG"], "max_tokens": 500}
    response = await asyncio.wait_for(api.client.post(ROUTE, json=body), 60)
    assert response.status_code == 400
    assert api.backend.aborted == [api.backend.requests[0].id]


@pytest.mark.parametrize("name", ["nano", "midfill"])
async def test_served_model_names(api, name):
    assert (await post(api, prompt="x", model=name)).json()["model"] == "nano"


async def test_unknown_model_is_404(api):
    response = await post(api, prompt="x", model="gpt-5")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (
        "model_not_found",
        "model",
        "invalid_request_error",
    )


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("max_tokens", 0, "from 1 to"),
        ("max_tokens", 513, "from 1 to 512"),
        ("max_tokens", "5", "an integer"),
        ("max_tokens", 5.5, "an integer"),
        ("max_tokens", True, "an integer"),
        ("temperature", 2.1, "from 0 to 2"),
        ("temperature", -1, "from 0 to 2"),
        ("top_p", 0, "above 0 and up to 1"),
        ("top_k", -1, "from 0"),
        ("n", 9, "from 1 to 8"),
        ("logprobs", 6, "from 0 to 5"),
        ("stop", ["a"] * 9, "at most 8"),
        ("stop", [""], "of 1 to 256 characters"),
        ("stop", 3, "a string or a list"),
        ("stream", "yes", "true or false"),
        ("stream_options", {"include_usage": 1}, "include_usage"),
        ("seed", 2**63, "64 bits"),
        ("suffix", 1, "a string"),
        ("mode", "word", "auto, line or block"),
        ("session", "", "1 to 256 characters"),
        ("deadline_ms", 0, "from 1 to 600000"),
        ("priority", 1000, "from -100 to 100"),
        ("context", [{"path": "a"}], "{path, text}"),
        ("context", [{"path": "a", "text": ""}] * 65, "at most 64"),
        ("path", "x" * 1025, "at most 1024"),
        ("prompt", [], "1 to 64 strings"),
        ("prompt", [1, 2], "1 to 64 strings"),
        ("prompt", "a\ud800", "surrogate"),
        ("suffix", "\udfff", "surrogate"),
    ],
)
async def test_out_of_range_names_field_and_range(api, field, value, says):
    body = {"prompt": "x", field: value}
    response = await api.client.post(ROUTE, content=json.dumps(body))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field and error["type"] == "invalid_request_error"
    assert field in error["message"] and says in error["message"]
    assert api.backend.requests == []


async def test_an_integer_may_be_written_with_a_point(api):
    assert (await api.client.post(ROUTE, content=b'{"prompt": "x", "max_tokens": 2.0, "seed": 1e2}')).status_code == 200
    assert (api.backend.requests[0].max_tokens, api.backend.requests[0].seed) == (2, 100)


async def test_prompt_is_required(api):
    for body in ({}, {"prompt": None}):
        response = await api.client.post(ROUTE, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["message"] == "prompt is required"


async def test_prompt_chars_limit_counts_suffix_and_context(serve):
    api = await serve(max_prompt_chars=10)
    context = [{"path": "a.py", "text": "xxx"}]
    assert (await post(api, prompt="x" * 4, suffix="x" * 3, context=context)).status_code == 200
    response = await post(api, prompt="x" * 5, suffix="x" * 3, context=context)
    assert response.status_code == 400
    assert "at most 10 characters" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_too_long_is_400_before_the_first_byte(api, stream):
    response = await post(api, prompt="TOO LONG", stream=stream)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"
    assert "1024 tokens" in response.json()["error"]["message"]


async def test_suffix_needs_a_model_that_fills_in(serve, scripted):
    api = await serve(scripted(supports_suffix=False))
    assert (await post(api, prompt="x")).status_code == 200
    response = await post(api, prompt="x", suffix="y")
    assert response.status_code == 400 and response.json()["error"]["param"] == "suffix"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_the_backend_is_500_without_its_text(api, stream):
    response = await post(api, prompt="FAULT secret", stream=stream)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text


async def test_a_late_fault_is_an_error_event_in_the_stream(api):
    chunks = events((await post(api, prompt="LATE FAULT secret", stream=True)).text)
    assert chunks[0]["choices"][0]["text"] == " w0"
    assert chunks[-1]["error"]["code"] == "internal_error"


async def test_best_of_tells_the_likeliest_and_counts_all(api, monkeypatch):
    values = iter((-3.0, -1.0, -2.0) * 2)

    async def candidate(request):
        value = next(values)
        yield Chunk(f"{value}", token_logprobs=((f"{value}", value),))
        stats = Stats(prompt_tokens=10, completion_tokens=1, mean_logprob=value)
        yield Chunk("", finish_reason="stop", stats=stats)

    monkeypatch.setattr(api.backend, "complete", candidate)
    body = (await post(api, prompt="x", best_of=3, n=2, echo=True)).json()
    assert [choice["text"] for choice in body["choices"]] == ["x-1.0", "x-2.0"]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (10, 3)

    chunks = events((await post(api, prompt="x", best_of=3, n=2, stream=True)).text)
    assert [(chunk["choices"][0]["index"], chunk["choices"][0]["text"]) for chunk in chunks] == [
        (0, "-1.0"),
        (1, "-2.0"),
    ]
    assert chunks[-1]["usage"]["completion_tokens"] == 3 and chunks[-1]["midfill"]


async def test_best_of_below_n_asks_for_no_more(api):
    body = (await post(api, prompt="x", best_of=1, n=2)).json()
    assert len(body["choices"]) == len(api.backend.requests) == 2


async def test_token_ids_are_refused_with_the_reason(api):
    for prompt in ([1, 2], [[1, 2], [3]]):
        error = (await post(api, prompt=prompt)).json()["error"]
        assert error["param"] == "prompt" and "token ids are not supported" in error["message"]


async def test_timing_headers(api):
    whole = await post(api, prompt="x")
    assert whole.headers["server-timing"] == "queue;dur=1.00, prefill;dur=2.00, decode;dur=3.00"
    streamed = await post(api, prompt="x", stream=True)
    assert streamed.headers["server-timing"].startswith("first;dur=")


async def test_echo_and_logprobs_in_a_stream_with_several_prompts(api):
    chunks = events((await post(api, prompt=["ab", "c"], stream=True, echo=True, logprobs=1)).text)
    offsets = {0: [], 1: []}
    for chunk in chunks:
        choice = chunk["choices"][0]
        offsets[choice["index"]] += choice["logprobs"]["text_offset"]
    assert offsets == {0: [2, 5, 8], 1: [1, 4, 7]}


async def test_output_filters_apply_only_where_asked_for(api):
    asked = {"prompt": "x = 1 +", "suffix": "\n w0 w1 w2\n", "path": "a.py", "logprobs": 1}
    plain = (await api.client.post("/v1/completions", json=asked)).json()
    assert plain["choices"][0]["text"] == " w0 w1 w2" and "filtered" not in plain["midfill"]
    cut = (await api.client.post("/v1/completions", json=asked | {"midfill": {"filters": True}})).json()
    assert cut["choices"][0]["text"] == "" and cut["choices"][0]["logprobs"]["tokens"] == []
    assert cut["midfill"]["filtered"] == [{"reasons": ["in_suffix"], "syntax": False}]
    streamed = await api.client.post("/v1/completions", json=asked | {"midfill": {"filters": True}, "stream": True})
    assert '"text":""' in streamed.text and "in_suffix" in streamed.text and " w0" not in streamed.text
    short = {"code": asked["prompt"], "suffix": asked["suffix"]}
    assert (await api.client.post("/complete", json=short)).json()["completion"] == " w0 w1 w2"
    short_cut = (await api.client.post("/complete", json=short | {"midfill": {"filters": True}})).json()
    assert short_cut["completion"] == "" and short_cut["filtered"] == {"reasons": ["in_suffix"], "syntax": None}
    batch = {"requests": [short, short | {"midfill": {"filters": True}}]}
    results = (await api.client.post("/complete/batch", json=batch)).json()["results"]
    assert [result["completion"] for result in results] == [" w0 w1 w2", ""]
    assert ["filtered" in result for result in results] == [False, True]
    wrong = await api.client.post("/v1/completions", json=asked | {"midfill": {"filters": 1}})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "midfill"
