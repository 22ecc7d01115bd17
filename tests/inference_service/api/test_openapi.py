"""The OpenAPI document says what the service does."""

import pytest
from jsonschema_rs import validator_for

ROUTES = {
    ("post", "/v1/completions"),
    ("delete", "/v1/completions/{completion_id}"),
    ("post", "/complete"),
    ("post", "/complete/batch"),
    ("post", "/v1/events"),
    ("get", "/v1/models"),
    ("get", "/info"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/health"),
    ("get", "/metrics"),
}


@pytest.fixture
async def document(api):
    response = await api.client.get("/openapi.json")
    assert response.status_code == 200
    return response.json()


def resolve(document, schema):
    return {**schema, "components": document["components"]}


async def test_every_route_of_the_contract_is_there(document):
    declared = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert declared >= ROUTES
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"] or operation["summary"]
            assert "422" not in operation["responses"], path


async def test_examples_are_answered_as_declared(api, document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if not content or path.startswith("/admin/"):  # a fresh service has no other version to name
                continue
            assert "example" in content, path
            response = await api.client.request(method, path, json=content["example"])
            declared = operation["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
            assert response.status_code < 300, (path, response.text)
            validator_for(resolve(document, declared)).validate(response.json())


async def test_the_limits_of_the_settings_are_in_it(serve):
    api = await serve(max_tokens_limit=77)
    page = (await api.client.get("/openapi.json")).json()
    field = page["components"]["schemas"]["CompletionBody"]["properties"]["max_tokens"]
    assert {"type": "integer", "minimum": 1, "maximum": 77} in field["anyOf"]


async def test_the_error_shape_is_the_declared_one(api, document):
    response = await api.client.post("/v1/completions", json={"prompt": 3})
    schema = document["paths"]["/v1/completions"]["post"]["responses"]["400"]["content"]["application/json"]["schema"]
    validator_for(resolve(document, schema)).validate(response.json())


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/v1/completions", "logprobs", 6),
        ("/v1/completions", "seed", 2**63),
        ("/v1/completions", "user", "x" * 257),
        ("/v1/completions", "path", "x" * 1025),
        ("/v1/completions", "language", "x" * 65),
        ("/v1/completions", "session", ""),
        ("/v1/completions", "deadline_ms", 0),
        ("/v1/completions", "n", 9),
        ("/v1/completions", "stop", ["x"] * 9),
        ("/v1/completions", "temperature", 2.1),
        ("/complete", "top_k", -1),
        ("/v1/events", "accepted_chars", 1_000_001),
    ],
)
async def test_what_the_service_refuses_the_document_refuses_too(api, document, path, field, value):
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    body = content["example"] | {field: value}
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == field
    assert not validator_for(resolve(document, content["schema"])).is_valid(body)
    assert validator_for(resolve(document, content["schema"])).is_valid(content["example"] | {field: None})
