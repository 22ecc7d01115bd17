"""JSON as it leaves: compact, UTF-8, from one encoder that is made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_bytes(value: Any) -> bytes:
    """`value` as JSON. Raises ValueError for NaN and infinities."""
    return _encode(value).encode()


class JsonResponse(Response):
    """As Starlette's JSONResponse, which makes an encoder for every answer."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(json_bytes(content), status_code, headers)
