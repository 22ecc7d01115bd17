"""Under which key an answer lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from inference_service.engine.request import CompletionRequest

MOST_TYPED = 64  # characters that may have been typed since the answer was computed


def is_repeatable(request: CompletionRequest) -> bool:
    """Whether the same request always gets the same answer."""
    return request.temperature == 0 or request.seed is not None


def keys(request: CompletionRequest, version: str) -> Iterator[str]:
    """The key of the request, then of the same request 1, 2, … characters before, as far as one answer could reach.

    A key holds everything that an answer depends on, and the tenant: what one tenant sends never meets another's
    answers. Only greedy answers go on after what was typed: with a seed each token has its own random number.
    """
    prompt = request.prompt.encode(errors="surrogatepass")
    typed = min(MOST_TYPED, len(request.prompt)) if request.temperature == 0 else 0
    tail = request.prompt[len(request.prompt) - typed :]
    base = hashlib.sha256(_everything_else(request, version))
    base.update(prompt[: len(prompt) - len(tail.encode(errors="surrogatepass"))])
    found = [base.hexdigest()]
    for character in tail:
        base.update(character.encode(errors="surrogatepass"))
        found.append(base.hexdigest())
    return reversed(found)


def _everything_else(request: CompletionRequest, version: str) -> bytes:
    sampling = [request.temperature, request.top_p, request.top_k, request.min_p, request.seed]
    if request.temperature == 0:
        sampling = []  # nothing is sampled
    fields = [
        request.tenant,
        version,
        request.suffix,
        request.path,
        [[file.path, file.text] for file in request.context],
        request.max_tokens,
        sampling,
        request.stop,
        request.mode,
    ]
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    return f"{len(text)}:{text}".encode()
