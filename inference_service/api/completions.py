"""`POST /v1/completions`, streamed or not, and `DELETE /v1/completions/{id}`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from inference_service.api import results as shapes
from inference_service.api.body import parse, read_object
from inference_service.api.errors import ApiError, invalid
from inference_service.api.results import Result
from inference_service.api.run import Run
from inference_service.api.schemas import CompletionBody
from inference_service.api.service import Service
from inference_service.engine.request import CompletionRequest, ContextFile
from inference_service.logs import request_fields

router = APIRouter()
Tokens = Sequence[tuple[str, float]]
_SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


@router.post("/v1/completions")
async def create_completion(request: Request) -> Response:
    """OpenAI's text completion with our own fields; every error is decided before the first byte."""
    service: Service = request.app.state.service
    service.require_ready()
    body = parse(CompletionBody, await read_object(request))
    check_limits(service, body.prompts, body.suffix, body.max_tokens, sum(len(item.text) for item in body.context))
    card = service.backend.model
    if body.model not in (None, card.name, "midfill"):
        raise ApiError(404, "model_not_found", f"this service serves the model {card.name!r}", param="model")

    run = Run(service, request, _requests(body, request.scope, request.headers))
    request_fields(request.scope).update(
        completion=run.id,
        stream=body.stream,
        prompt_chars=sum(map(len, body.prompts)),
        suffix_chars=len(body.suffix or ""),
    )
    answer = _Answer(run.id, body, card.name, card.version)
    if body.stream:
        return _EventStream(run, answer)
    async with run:
        async for index, item in run.chunks():
            if isinstance(item, ApiError):
                raise item
            answer.results[index].add(item)
    request_fields(request.scope).update(shapes.log_json(answer.results, body.n))
    if any(result.finish_reason == "superseded" for result in answer.results):
        raise ApiError(409, "superseded", "a newer request of the same session took the place of this one")
    return JSONResponse(answer.whole())


@router.delete("/v1/completions/{completion_id}")
async def cancel_completion(completion_id: str, request: Request) -> Response:
    """Cancel by id. Idempotent: `cancelled` says whether there was something to cancel."""
    service: Service = request.app.state.service
    return JSONResponse({"id": completion_id, "cancelled": service.cancel(completion_id)})


def check_limits(
    service: Service,
    prompts: tuple[str, ...],
    suffix: str | None,
    max_tokens: int,
    context_chars: int = 0,
    *,
    names: tuple[str, str] = ("prompt", "suffix"),
) -> None:
    """Raise ApiError 400 where a limit of the settings or of the model is exceeded.

    `names` are the fields that held prompts and suffix.
    """
    limits = service.settings
    if max_tokens > limits.max_tokens_limit:
        raise invalid("max_tokens", f"max_tokens must be an integer from 1 to {limits.max_tokens_limit}")
    if suffix is not None and not service.backend.model.supports_suffix:
        raise invalid(names[1], f"{names[1]} is not supported by this model, which was not trained to fill in")
    if max(map(len, prompts)) + len(suffix or "") + context_chars > limits.max_prompt_chars:
        raise invalid(
            names[0],
            f"{names[0]} must have at most {limits.max_prompt_chars} characters, with {names[1]} and context",
        )


def _requests(body: CompletionBody, scope: Scope, headers: Mapping[str, str]) -> list[CompletionRequest]:
    session = body.session or headers.get("x-midfill-session")
    base = CompletionRequest(
        prompt="",
        suffix=body.suffix,
        path=body.path,
        context=tuple(ContextFile(item.path, item.text) for item in body.context),
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        stop=body.stops,
        mode=body.mode,
        tenant=scope["midfill.key"],
        user=body.user or "",
        priority=body.priority,
        deadline=None if body.deadline_ms is None else scope["midfill.received"] + body.deadline_ms / 1000,
    )
    requests: list[CompletionRequest] = []
    for prompt in body.prompts:
        for choice in range(body.n):
            first = not requests
            requests.append(
                replace(
                    base,
                    prompt=prompt,
                    # Choices of one prompt must differ, and still be the same next time.
                    seed=None if body.seed is None else body.seed + choice,
                    # Two of one session would supersede each other; `Run` ends siblings with the first.
                    session=f"{scope['midfill.key']}:{session}" if session and first else None,
                    id=base.id if first else f"{base.id}-{len(requests)}",
                )
            )
    return requests


class _Answer:
    """The JSON of one answer, whole or in chunks."""

    def __init__(self, completion_id: str, body: CompletionBody, model: str, version: str) -> None:
        self.body = body
        self.results = [Result() for _ in range(len(body.prompts) * body.n)]
        self._version = version
        self._frame = {
            "id": completion_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self) -> dict[str, Any]:
        choices = [
            self._choice(index, echoed + result.text, result.logprobs, result.finish_reason, len(echoed))
            for index, result in enumerate(self.results)
            for echoed in [self.echoed(index)]
        ]
        return {**self._frame, "choices": choices, **self.totals()}

    def totals(self) -> dict[str, Any]:
        return {
            "usage": shapes.usage_json(self.results, self.body.n),
            "midfill": shapes.midfill_json(self.results, self._version),
        }

    def part(self, index: int, text: str, tokens: Tokens = (), reason: str | None = None) -> dict[str, Any]:
        offset = len(self.echoed(index)) + sum(len(token) for token, _ in self.results[index].logprobs)
        return {**self._frame, "choices": [self._choice(index, text, tokens, reason, offset)]}

    def usage_only(self) -> dict[str, Any]:
        return {**self._frame, "choices": [], "usage": shapes.usage_json(self.results, self.body.n)}

    def echoed(self, index: int) -> str:
        return self.body.prompts[index // self.body.n] if self.body.echo else ""

    def _choice(self, index: int, text: str, tokens: Tokens, reason: str | None, offset: int) -> dict[str, Any]:
        top = self.body.logprobs
        return {
            "index": index,
            "text": text,
            "logprobs": None if top is None else shapes.logprobs_json(tokens, top, offset),
            "finish_reason": reason,
        }


class _EventStream(Response):
    """Server-sent events. It owns the run, so that nothing is left running whatever ends the response."""

    def __init__(self, run: Run, answer: _Answer) -> None:
        super().__init__(headers=_SSE_HEADERS)
        self._run = run
        self._answer = answer

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer
        started = False
        left = len(answer.results)
        # With include_usage every chunk has a usage field, which is null but in the extra last one.
        no_usage = {"usage": None} if answer.body.stream_options.include_usage else {}

        async def event(data: dict[str, Any]) -> None:
            text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})

        async with self._run as run:
            async for index, item in run.chunks():
                if not started:
                    if isinstance(item, ApiError):
                        raise item
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    started = True
                    for echoing in range(len(answer.results) if answer.body.echo else 0):
                        await event(answer.part(echoing, answer.echoed(echoing)) | no_usage)
                if isinstance(item, ApiError):
                    left -= 1
                    answer.results[index].finish_reason = "error"
                    await event(item.body())
                elif item.text or item.token_logprobs or item.finish_reason:
                    part = answer.part(index, item.text, item.token_logprobs, item.finish_reason)
                    answer.results[index].add(item)
                    left -= item.finish_reason is not None
                    await event(part | ({} if left else answer.totals()) | no_usage)
        request_fields(scope).update(shapes.log_json(answer.results, answer.body.n))
        if no_usage:
            await event(answer.usage_only())
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
