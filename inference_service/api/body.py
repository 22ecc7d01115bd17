"""From bytes to a validated schema object, with one kind of error for all that can be wrong on the way."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from inference_service.api.errors import ClientGone, invalid

Schema = TypeVar("Schema", bound=BaseModel)


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Raises ApiError 400 (or 413 from the body limit), ClientGone."""
    raw = await _read(request)
    try:
        value = _decode(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise invalid(None, "the body must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise invalid(None, f"the body is not valid JSON: line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise invalid(None, "the body is nested too deeply") from None
    except ValueError:  # NaN, Infinity, or an integer with thousands of digits
        raise invalid(None, "the body has a number that is not valid JSON or is too long") from None
    if not isinstance(value, dict):
        raise invalid(None, "the body must be a JSON object")
    return value


async def _read(request: Request) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parse(schema: type[Schema], value: Any, *, where: str = "") -> Schema:
    """`value` as a `schema`; null means absent, as in OpenAI's API.

    `where` prefixes the field's name in the error, e.g. "requests[2].". Raises ApiError 400 that names the
    field and what it may be, which is the `description` in the schema.
    """
    if not isinstance(value, dict):
        raise invalid(where.rstrip(".") or None, f"{where.rstrip('.') or 'the body'} must be a JSON object")
    try:
        return schema.model_validate({name: item for name, item in value.items() if item is not None})
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        first = errors[0]
        name = str(first["loc"][0])
        param = where + name
        if first["type"] == "told":  # by a validator of ours that knows better than the field's description
            raise invalid(param, f"{param} {first['msg']}") from None
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise invalid(param, f"{param} is required") from None
        if any(item["type"] == "string_unicode" and item["loc"][0] == name for item in errors):
            raise invalid(param, f"{param} has an unpaired surrogate, which is not text") from None
        raise invalid(param, f"{param} must be {schema.model_fields[name].description}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
