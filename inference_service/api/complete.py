"""`POST /complete` and `POST /complete/batch`: the short form for scripts."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from inference_service.api.answers import BatchAnswer, CompleteAnswer
from inference_service.api.body import parse, read_object
from inference_service.api.completions import check_limits
from inference_service.api.errors import ApiError
from inference_service.api.json_response import JsonResponse
from inference_service.api.results import Result, log_json, sum_up
from inference_service.api.routing import WORK, says
from inference_service.api.routing import router as new_router
from inference_service.api.run import Run
from inference_service.api.schemas import BatchBody, CompleteBody
from inference_service.api.service import Service
from inference_service.engine.request import CompletionRequest
from inference_service.logs import request_fields
from inference_service.output_filters.pipeline import judge

router = new_router()
_EXAMPLE = {"code": "def add(a, b):\n    return ", "max_tokens": 8, "temperature": 0}


@router.post("/complete", **says(CompleteAnswer, takes=CompleteBody, errors=WORK, example=_EXAMPLE))
async def complete(request: Request) -> Response:
    """`{code, suffix?, max_tokens, temperature, top_k}` → `{completion, tokens, latency_ms, id, model}`."""
    service: Service = request.app.state.service
    service.require_ready()
    (item,) = await _complete(service, request, [_wanted(service, request, await read_object(request), where="")])
    if isinstance(item, ApiError):
        if item.param == "prompt":  # as the backend's side calls it
            item.param = "code"
        raise item
    return JsonResponse(item)


@router.post("/complete/batch", **says(BatchAnswer, takes=BatchBody, errors=WORK, example={"requests": [_EXAMPLE]}))
async def complete_batch(request: Request) -> Response:
    """`{requests: […]}` → `{results: […]}` in order; an item's error stands in its place, with status 200."""
    service: Service = request.app.state.service
    service.require_ready()
    body = parse(BatchBody, await read_object(request))
    checked: list[_Wanted | ApiError] = []
    for position, item in enumerate(body.requests):
        try:
            checked.append(_wanted(service, request, item, where=f"requests[{position}]."))
        except ApiError as error:
            checked.append(error)
    good = [item for item in checked if isinstance(item, _Wanted)]
    done = iter(await _complete(service, request, good) if good else [])
    results = []
    for position, asked in enumerate(checked):
        answer = asked if isinstance(asked, ApiError) else next(done)
        if isinstance(answer, ApiError):
            if answer.param == "prompt":  # as the backend's side calls it
                answer.param = f"requests[{position}].code"
            answer = answer.body()
        results.append(answer)
    return JsonResponse({"results": results})


class _Wanted(NamedTuple):
    request: CompletionRequest
    filtered: bool


def _wanted(service: Service, http: Request, value: Any, where: str) -> _Wanted:
    body = parse(CompleteBody, value, where=where)
    try:
        check_limits(service, (body.code,), body.suffix, body.max_tokens, names=("code", "suffix"))
    except ApiError as error:
        error.param = where + (error.param or "")
        error.message = where + error.message
        raise
    wanted = CompletionRequest(
        prompt=body.code,
        suffix=body.suffix,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_k=body.top_k,
        tenant=http.scope["midfill.principal"].tenant,
    )
    return _Wanted(wanted, body.midfill.filters)


async def _complete(service: Service, request: Request, wanted: list[_Wanted]) -> list[dict[str, Any] | ApiError]:
    run = Run(service, request, [item.request for item in wanted])
    fields = request_fields(request.scope)
    fields.update(completion=run.id, prompt_chars=sum(len(item.request.prompt) for item in wanted))
    results = [Result() for _ in wanted]
    failures: dict[int, ApiError] = {}
    async with run:
        async for batch in run.batches():
            for index, chunk in batch:
                if isinstance(chunk, ApiError):
                    failures[index] = chunk
                else:
                    results[index].add(chunk)
    finished = [result for index, result in enumerate(results) if index not in failures]
    if finished:
        fields.update(log_json(sum_up(finished, 1)))
    # Of a batch's items only the common end is known to the client, so that is what each reports.
    latency_ms = round((time.monotonic() - request.scope["midfill.received"]) * 1000, 2)
    name = service.backend.model.name
    return [
        failures.get(index) or _answer(asked, result, latency_ms, name)
        for index, (asked, result) in enumerate(zip(wanted, results, strict=True))
    ]


def _answer(asked: _Wanted, result: Result, latency_ms: float, model: str) -> dict[str, Any]:
    answer = {
        "completion": result.text,
        "tokens": result.stats.completion_tokens,
        "latency_ms": latency_ms,
        "id": asked.request.id,
        "model": model,
    }
    if not asked.filtered:
        return answer
    verdict = judge(
        result.text,
        before=asked.request.prompt,
        after=asked.request.suffix or "",
        language="",  # the short form does not tell it
        mean_logprob=result.stats.mean_logprob,
    )
    return answer | {
        "completion": verdict.text,
        "filtered": {"reasons": list(verdict.reasons), "syntax": verdict.syntax},
    }
