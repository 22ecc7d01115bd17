"""Writes docs/api.md from the OpenAPI document. Run it after a change in the API; tests/docs/test_api.py notices
when it was forgotten, and runs the examples of the page.

    python -m tools.api_docs
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inference_service.api.openapi import document
from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
URL = "http://127.0.0.1:8000"

_INTRO = """# HTTP API

Written by `tools/api_docs.py` from the OpenAPI document, which a running service serves at `/openapi.json`.

All bodies are JSON in UTF-8. Unknown fields are ignored and null means absent, as OpenAI's clients expect. Every error
is `{"error": {"message", "type", "code", "param"}}` and is decided before the first byte of a stream; 429 and 503 carry
`Retry-After` in seconds. Every answer carries `X-Request-Id`: yours, if you sent one.

<!-- needs: service -->

Keys: none needed on loopback unless keys are configured; otherwise `Authorization: Bearer KEY` or `X-API-Key: KEY`.

"""
_STREAMING = """
With `stream` the answer is server-sent events: each `data:` line is an answer with the next piece of one choice, the
last one has `usage` and `midfill` too, then comes `data: [DONE]`. The others have the `mean_logprob` of the choice so
far, where it is known and no `logprobs` were asked for; in block mode they bring whole lines.
`finish_reason` is `stop`, `length`, `deadline` (what was there in time), `superseded` (409 when not streaming),
`cancelled` or `shutdown`. The header `Server-Timing` has `queue`, `prefill` and `decode` in milliseconds, of a stream
the time to its `first` piece.

OpenAI's Python client works unchanged:

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
answer = client.completions.create(
    model="midfill", prompt="def add(a, b):\\n    return ", suffix="\\n", max_tokens=8, extra_body={"mode": "line"}
)
print(answer.choices[0].text)

for chunk in client.completions.create(model="midfill", prompt="import ", max_tokens=8, stream=True):
    print(chunk.choices[0].text, end="")
```
"""


def page() -> str:
    """The text of docs/api.md."""
    settings = Settings()
    described = document(create_app(settings, LocalBackend(settings.model)), settings)
    schemas = described["components"]["schemas"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    text = _INTRO + "| route | does | errors |\n|---|---|---|\n"
    for method, path, operation in operations:
        errors = ", ".join(sorted(code for code in operation["responses"] if code >= "400"))
        text += f"| `{method} {path}` | {_cell(operation.get('description', ''))} | {errors} |\n"
    for method, path, operation in operations:
        text += f"\n## {method} {path}\n\n{operation.get('description', '')}\n" + _body(operation, schemas)
        text += _answer(operation, schemas)
        if path == "/v1/completions":
            text += _STREAMING
        text += _examples(method, path, operation)
    return text


def _body(operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    text = "\n| field | must be | default | meaning |\n|---|---|---|---|\n"
    for name, field in schema["properties"].items():
        default = field.get("default")
        told = "required" if name in required else "" if default is None else f"`{json.dumps(default)}`"
        text += f"| `{name}` | {_cell(field.get('description', ''))} | {told} | {_cell(field['title'])} |\n"
    return text


def _answer(operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    code, response = next(item for item in operation["responses"].items() if item[0] < "300")
    schema = response["content"].get("application/json", {}).get("schema")
    if schema is None:
        (media,) = response["content"]
        return f"\nAnswers {code} with `{media}`.\n"
    return f"\nAnswers {code}: `{json.dumps(_shape(schema, schemas))}`\n"


def _shape(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The outline of a schema: types in place of values."""
    if "$ref" in schema:
        return _shape(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return _shape(schema["anyOf"][0], schemas)
    if "properties" in schema:
        return {name: _shape(field, schemas) for name, field in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_shape(schema["items"], schemas)]
    if "const" in schema:
        return schema["const"]
    return "|".join(schema["enum"]) if "enum" in schema else schema.get("type", "object")


def _examples(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    url = URL + path.replace("{completion_id}", "cmpl-1").replace("{model}", "nano")
    if "{" in url or (body is None and "requestBody" in operation):
        return ""
    if path.startswith("/admin/") and method != "GET":  # a fresh service has no other version
        return ""
    curl = "curl -sS" + (f" -X {method}" if method not in ("GET", "POST") else "") + f" {url}"
    call = f'httpx.{method.lower()}("{url}"'
    if body is not None:
        data = json.dumps(body).replace("'", "\\u0027")  # an apostrophe would end the shell's string
        curl += f" \\\n  -H 'Content-Type: application/json' \\\n  -d '{data}'"
        call += f", json={body!r}"
    text = f"\n```sh\n{curl}\n```\n"
    if method != "GET":
        text += f"\n```python\nimport httpx\n\nprint({call}, timeout=60).json())\n```\n"
    return text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
