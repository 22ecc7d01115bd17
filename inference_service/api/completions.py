"""`POST /v1/completions`, streamed or not, and `DELETE /v1/completions/{id}`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from inference_service.api import results as shapes
from inference_service.api.answer import Answer
from inference_service.api.answers import CancelAnswer, CompletionAnswer, CompletionChunk
from inference_service.api.body import parse, read_object
from inference_service.api.errors import ApiError, invalid
from inference_service.api.event_stream import EventStream
from inference_service.api.json_response import JsonResponse
from inference_service.api.routing import WORK, says
from inference_service.api.routing import router as new_router
from inference_service.api.run import Run
from inference_service.api.schemas import CompletionBody
from inference_service.api.service import Service
from inference_service.engine.request import CompletionRequest, ContextFile, new_id
from inference_service.guard.principal import Principal
from inference_service.logs import request_fields

router = new_router()
_EXAMPLE = {
    "prompt": "import os\n\npath = os.path.",
    "suffix": "\n",
    "max_tokens": 16,
    "temperature": 0,
    "mode": "line",
}


@router.post(
    "/v1/completions",
    **says(CompletionAnswer, takes=CompletionBody, errors=(*WORK, 404, 409), example=_EXAMPLE, stream=CompletionChunk),
)
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
    answer = Answer(run, body, card.name)
    if body.stream:
        return EventStream(run, answer)
    async with run:
        async for batch in run.batches():
            for index, item in batch:
                if isinstance(item, ApiError):
                    raise item
                answer.results[index].add(item)
    request_fields(request.scope).update(shapes.log_json(answer.sums))
    if any(result.finish_reason == "superseded" for result in answer.results):
        raise ApiError(409, "superseded", "a newer request of the same session took the place of this one")
    return JsonResponse(answer.whole(), headers={"Server-Timing": shapes.server_timing(answer.sums)})


@router.delete("/v1/completions/{completion_id}", **says(CancelAnswer))
async def cancel_completion(request: Request) -> Response:
    """Cancel by id. Idempotent: `cancelled` says whether there was something to cancel."""
    service: Service = request.app.state.service
    completion_id = request.path_params["completion_id"]
    return JsonResponse({"id": completion_id, "cancelled": service.cancel(completion_id)})


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
    principal: Principal = scope["midfill.principal"]
    session = body.session or headers.get("x-midfill-session")
    context = tuple(ContextFile(item.path, item.text) for item in body.context)
    first_id = new_id()
    requests: list[CompletionRequest] = []
    for prompt in body.prompts:
        for choice in range(body.candidates):
            first = not requests
            requests.append(
                CompletionRequest(
                    prompt=prompt,
                    suffix=body.suffix,
                    path=body.path,
                    language=body.language or "",
                    context=context,
                    max_tokens=body.max_tokens,
                    temperature=body.temperature,
                    top_p=body.top_p,
                    top_k=body.top_k,
                    min_p=body.min_p,
                    stop=body.stops,
                    mode=body.mode,
                    tenant=principal.tenant,
                    user=body.user or "",
                    priority=body.priority,
                    deadline=None if body.deadline_ms is None else scope["midfill.received"] + body.deadline_ms / 1000,
                    # Choices of one prompt must differ, and still be the same next time.
                    seed=None if body.seed is None else body.seed + choice,
                    # Two of one session would supersede each other; `Run` ends siblings with the first.
                    session=f"{principal.key_id}:{session}" if session and first else None,
                    id=first_id if first else f"{first_id}-{len(requests)}",
                )
            )
    return requests
