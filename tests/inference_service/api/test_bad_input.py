"""Whatever bytes arrive, the answer is a 4xx in the error shape or a completion, never a 500."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_service.api.schemas import BatchBody, CompleteBody, CompletionBody, EventBody

POSTS = ["/v1/completions", "/complete", "/complete/batch", "/v1/events"]

BODIES = {
    "empty": b"",
    "not json": b"{",
    "bare word": b"hello",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "a number": b"3",
    "bad utf-8": b'{"prompt": "\xff\xfe"}',
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "NaN": b'{"prompt": "x", "code": "x", "temperature": NaN}',
    "-Infinity": b'{"prompt": "x", "code": "x", "temperature": -Infinity}',
    "deep list": b"[" * 200_000,
    "deep object": b'{"prompt": ' * 90_000,
    "deep value": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep ignored field": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long integer": b'{"prompt": "x", "code": "x", "max_tokens": ' + b"9" * 50_000 + b"}",
    "NUL outside": b'\x00{"prompt": "x"}',
    "control character": b'{"prompt": "\x00"}',
}


def check(response, *allowed):
    assert response.status_code in allowed, response.text
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "code", "param"}
        assert response.json()["error"]["message"]


@pytest.mark.parametrize("route", POSTS)
async def test_malformed_bodies_are_400(api, route):
    for name, body in BODIES.items():
        response = await api.client.post(route, content=body)
        assert response.status_code == 400, name
        check(response, 400)
    assert api.backend.requests == []


async def test_huge_float_and_nul_in_text(api):
    infinite = await api.client.post("/v1/completions", content=b'{"prompt": "x", "temperature": 1e999}')
    assert infinite.status_code == 400 and infinite.json()["error"]["param"] == "temperature"
    assert (await api.client.post("/v1/completions", content=b'{"prompt": "a\\u0000b"}')).status_code == 200
    assert api.backend.requests[0].prompt == "a\0b"


async def test_byte_order_mark_is_accepted(api):
    assert (await api.client.post("/complete", content=b'\xef\xbb\xbf{"code": "x"}')).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_limit(live, chunked):
    api = await live(max_body_bytes=2000)

    def body(size):
        content = json.dumps({"code": "x" * (size - 13)}).encode() + b" "
        assert len(content) == size

        async def pieces():
            for start in range(0, size, 500):
                yield content[start : start + 500]

        return pieces() if chunked else content

    assert (await api.client.post("/complete", content=body(2000))).status_code == 200
    for size in (2001, 300_000):
        response = await api.client.post("/complete", content=body(size))
        check(response, 413)
        assert "2000 bytes" in response.json()["error"]["message"]


text = st.text(st.characters(codec=None), max_size=20)  # with lone surrogates
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
VALID = {
    "/v1/completions": {"prompt": "x"},
    "/complete": {"code": "x"},
    "/complete/batch": {"requests": [{"code": "x"}, {}]},
    "/v1/events": {"completion_id": "x", "event": "shown"},
}
FIELDS = {
    "/v1/completions": list(CompletionBody.model_fields),
    "/complete": list(CompleteBody.model_fields),
    "/complete/batch": list(BatchBody.model_fields),
    "/v1/events": list(EventBody.model_fields),
}
plausible = (
    text
    | st.integers(-1, 10)
    | st.booleans()
    | st.lists(text, max_size=3)
    | st.lists(st.fixed_dictionaries({"path": text, "text": text, "code": text}), max_size=2)
)


@given(st.data(), st.sampled_from(POSTS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_json_object_is_answered(api, data, route):
    """A valid body with up to three fields replaced by anything."""
    changes = st.dictionaries(st.sampled_from(FIELDS[route]), plausible | json_values, max_size=3)
    body = VALID[route] | data.draw(changes)
    check(await api.client.post(route, content=json.dumps(body)), 200, 202, 400, 404)


@given(st.binary(max_size=60), st.sampled_from(POSTS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_are_answered(api, body, route):
    check(await api.client.post(route, content=body), 400)
