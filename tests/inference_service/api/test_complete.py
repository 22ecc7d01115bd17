"""The contract of POST /complete and POST /complete/batch."""


async def test_short_form(api):
    response = await api.client.post("/complete", json={"code": "def f("})
    body = response.json()
    assert set(body) == {"completion", "tokens", "latency_ms", "id", "model"}
    assert (body["completion"], body["tokens"], body["model"]) == (" w0 w1 w2", 3, "nano")
    assert body["latency_ms"] > 0 and body["id"] == api.backend.requests[0].id


async def test_short_form_defaults_and_fields(api):
    await api.client.post("/complete", json={"code": "x"})
    full = {"code": "x", "suffix": "y", "max_tokens": 9, "temperature": 0, "top_k": 3}
    await api.client.post("/complete", json=full)
    first, second = api.backend.requests
    assert (first.suffix, first.max_tokens, first.temperature, first.top_k) == (None, 50, 0.8, 200)
    assert (second.suffix, second.max_tokens, second.temperature, second.top_k) == ("y", 9, 0, 3)


async def test_short_form_errors(api):
    for body, param in (
        ({}, "code"),
        ({"code": 1}, "code"),
        ({"code": "x", "max_tokens": 513}, "max_tokens"),
        ({"code": "TOO LONG"}, "code"),
    ):
        response = await api.client.post("/complete", json=body)
        assert response.status_code == 400 and response.json()["error"]["param"] == param


async def test_batch_keeps_order_and_isolates_bad_items(api):
    items = [
        {"code": "a"},
        {"code": 7},
        "text",
        {"code": "TOO LONG"},
        {"code": "b", "max_tokens": 999},
        {"code": "c"},
    ]
    response = await api.client.post("/complete/batch", json={"requests": items})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result.get("completion") for result in results] == [
        " w0 w1 w2",
        None,
        None,
        None,
        None,
        " w0 w1 w2",
    ]
    assert [request.prompt for request in api.backend.requests] == ["a", "TOO LONG", "c"]
    errors = [result["error"] for result in results if "error" in result]
    assert [error["param"] for error in errors] == [
        "requests[1].code",
        "requests[2]",
        "requests[3].code",
        "requests[4].max_tokens",
    ]
    assert all(set(error) == {"message", "type", "code", "param"} for error in errors)


async def test_batch_of_only_bad_items(api):
    results = (await api.client.post("/complete/batch", json={"requests": [{}, None]})).json()["results"]
    assert [result["error"]["code"] for result in results] == ["invalid_value", "invalid_value"]


async def test_batch_size_is_limited(api):
    for requests in ([], [{"code": "x"}] * 257, "x", None):
        response = await api.client.post("/complete/batch", json={"requests": requests})
        assert response.status_code == 400 and response.json()["error"]["param"] == "requests"


async def test_large_batch_goes_through_a_small_queue(serve):
    api = await serve(max_queue=3)
    response = await api.client.post("/complete/batch", json={"requests": [{"code": str(i)} for i in range(50)]})
    assert [result["tokens"] for result in response.json()["results"]] == [3] * 50
    assert [request.prompt for request in api.backend.requests] == [str(i) for i in range(50)]
    assert api.backend.most_running <= 3
