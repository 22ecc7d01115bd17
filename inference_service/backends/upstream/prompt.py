"""From a request to the body that an OpenAI-compatible server understands."""

from __future__ import annotations

from typing import Any

from inference_service.backends.base import RequestRefused
from inference_service.engine.request import CompletionRequest
from inference_service.model.fim import FORMATS, FimFormat, file_text, infill_text

SUFFIX_FIELD = "suffix"  # the server fills in by itself
FAMILIES = tuple(name for name, format_ in FORMATS.items() if format_.infill is not None)
_CHARS_A_TOKEN = 3  # of code, cautiously: what does not fit is refused by the server
_SUFFIX_SHARE = 0.2
_CONTEXT_SHARE = 0.3
_MOST_STOPS = 4  # OpenAI's limit, which some servers keep; our own check knows all of them


def supports_suffix(fim: str) -> bool:
    """Whether a suffix can be said to a server in that way."""
    return fim != ""


def build_body(request: CompletionRequest, model: str, fim: str, context_length: int, midfill: bool) -> dict[str, Any]:
    """The JSON of `POST /v1/completions`, streaming.

    `fim` is "" (no suffix), SUFFIX_FIELD, or a name in FAMILIES, whose template is written into the prompt. Another
    Midfill (`midfill`) gets our own fields as they are. Raises RequestRefused for a suffix that cannot be said.
    """
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": 1,
    }
    if request.temperature:
        # -1 is what the others call "off"; left out, llama.cpp would take 40
        body |= {"min_p": request.min_p, "top_k": request.top_k or (0 if midfill else -1)}
    if request.seed is not None:
        body["seed"] = request.seed
    if midfill:
        return body | _as_it_is(request)
    stops = [*(["\n"] if request.mode == "line" else []), *request.stop]
    if stops:
        body["stop"] = stops[:_MOST_STOPS]
    room = max(context_length - request.max_tokens, context_length // 2) * _CHARS_A_TOKEN
    context, suffix = _context(request, fim, int(room * _CONTEXT_SHARE)), None
    if request.suffix is not None:
        if not supports_suffix(fim):
            raise RequestRefused("suffix is not supported: the service was started without --upstream-fim", "suffix")
        suffix = request.suffix[: int(room * _SUFFIX_SHARE)]
    prefix = cut_prefix(request.prompt, room - len(context) - len(suffix or ""))
    if suffix is None or fim == SUFFIX_FIELD:
        body["prompt"] = context + prefix
        return body if suffix is None else body | {"suffix": suffix}
    body["prompt"] = context + infill_text(FORMATS[fim], request.path, prefix, suffix)
    return body


def cut_prefix(prefix: str, room: int) -> str:
    """The end of `prefix` that fits `room` characters, cut at a line in steps of a quarter, so that the beginning of
    the prompt stays the same, and cached, while somebody types."""
    if len(prefix) <= room:
        return prefix
    step = max(room // 4, 1)
    cut = -(-(len(prefix) - room) // step) * step
    line = prefix.find("\n", cut, cut + step)
    return prefix[line + 1 if line >= 0 else cut :]


def _as_it_is(request: CompletionRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "prompt": request.prompt,
        "suffix": request.suffix,
        "path": request.path,
        "context": [{"path": file.path, "text": file.text} for file in request.context],
        "mode": request.mode,
        "stop": list(request.stop),
        "priority": request.priority,
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _context(request: CompletionRequest, fim: str, room: int) -> str:
    format_: FimFormat = FORMATS.get(fim, FORMATS["plain"])
    text = ""
    for file in request.context:
        piece = file_text(format_, file.path, file.text)
        if len(text) + len(piece) > room:
            break  # a cut file would move with every edit of it
        text += piece
    return text
