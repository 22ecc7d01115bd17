"""What comes back from an OpenAI-compatible server: its stream, and its refusals."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx

from inference_service.backends.base import BackendUnavailable, PromptTooLong, RequestRefused

_LONGEST_RETRY_S = 60
_ABOUT_LENGTH = ("context length", "context_length", "context size", "too long", "maximum context", "exceeds")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer. `reason` is the server's finish reason, `usage` what it counted."""

    text: str = ""
    logprobs: tuple[tuple[str, float], ...] = ()
    reason: str | None = None
    usage: dict[str, Any] | None = None


async def pieces(response: httpx.Response) -> AsyncGenerator[Piece, None]:
    """The stream's pieces until [DONE]. Raises BackendUnavailable when it ends before, or with an error."""
    async for line in response.aiter_lines():
        field, _, value = line.partition(":")
        if field != "data":
            continue
        if value.strip() == "[DONE]":
            return
        try:
            yield _piece(json.loads(value))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise BackendUnavailable("the upstream server sent something that is no completion") from None
    raise BackendUnavailable("the upstream server broke its answer off")


def _piece(data: dict[str, Any]) -> Piece:
    if "error" in data:
        raise BackendUnavailable("the upstream server failed while it was answering")
    choice = data["choices"][0] if data.get("choices") else {}
    return Piece(
        choice.get("text") or "",
        _logprobs(choice.get("logprobs") or {}),
        choice.get("finish_reason"),
        data.get("usage"),
    )


def _logprobs(data: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    if "content" in data:  # as llama.cpp gives them
        found = [(item["token"], item["logprob"]) for item in data["content"] or ()]
    else:  # as OpenAI's text completions do
        found = list(zip(data.get("tokens") or (), data.get("token_logprobs") or (), strict=False))
    return tuple((str(token), float(value)) for token, value in found if value is not None and math.isfinite(value))


async def check(response: httpx.Response) -> None:
    """Raise what a status other than 200 means. What the server wrote is not passed on: it may quote the prompt."""
    status = response.status_code
    if status == 200:
        return
    text = ""
    with contextlib.suppress(httpx.HTTPError):
        text = (await response.aread())[:4096].decode(errors="replace").lower()
    if status in (400, 413, 422) and any(word in text for word in _ABOUT_LENGTH):
        raise PromptTooLong("prompt is longer than the upstream server takes: send less of it, or fewer max_tokens")
    if status in (400, 413, 422):
        raise RequestRefused(f"the upstream server refused this request ({status})")
    if status in (401, 403):
        raise BackendUnavailable("the upstream server does not accept our key: set MIDFILL_UPSTREAM_KEY", 30)
    if status == 404:
        raise BackendUnavailable("the upstream server does not serve that model: check --upstream-model", 30)
    raise BackendUnavailable(f"the upstream server answered {status}", _retry_after(response))


def _retry_after(response: httpx.Response) -> int:
    text = response.headers.get("retry-after", "")
    return min(max(int(text), 1), _LONGEST_RETRY_S) if text.isdigit() else 2
