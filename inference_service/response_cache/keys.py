"""Under which key an answer lies."""

from __future__ import annotations

import hashlib

from inference_service.engine.request import CompletionRequest

MOST_TYPED = 64  # characters that may have been typed since the answer was computed


def is_repeatable(request: CompletionRequest) -> bool:
    """Whether the same request always gets the same answer."""
    return request.temperature == 0 or request.seed is not None


class Keys:
    """The key of a request, and of the same request 1, 2, … characters before, as far as one answer could reach.

    A key holds everything that an answer depends on, and the tenant: what one tenant sends never meets another's
    answers. `family` is all of that but the prompt, `length` the characters of the prompt. Only greedy answers go on
    after what was typed: with a seed each token has its own random number.
    """

    def __init__(self, request: CompletionRequest, version: str) -> None:
        prompt = request.prompt
        self.length = len(prompt)
        self.most_typed = min(MOST_TYPED, self.length) if request.temperature == 0 else 0
        self.family = _everything_else(request, version)
        self._before = hashlib.sha256(self.family)
        self._before.update(prompt[: self.length - self.most_typed].encode(errors="surrogatepass"))
        self._tail = prompt[self.length - self.most_typed :]

    def at(self, typed: int) -> str:
        """The key of the request without the last `typed` (0 to `most_typed`) characters of its prompt."""
        found = self._before.copy()
        found.update(self._tail[: self.most_typed - typed].encode(errors="surrogatepass"))
        return found.hexdigest()


def _everything_else(request: CompletionRequest, version: str) -> bytes:
    sampling = [request.temperature, request.top_p, request.top_k, request.min_p, request.seed]
    if request.temperature == 0:
        sampling = []  # nothing is sampled
    fields = [request.max_tokens, request.mode, *sampling, len(request.stop), len(request.context)]
    texts = [request.tenant, version, request.suffix, request.path, *request.stop]
    for file in request.context:
        texts += [file.path, file.text]
    found = hashlib.sha256(repr(fields).encode())
    for text in texts:
        data = b"" if text is None else text.encode(errors="surrogatepass")
        found.update(b"none;" if text is None else b"%d;" % len(data))  # so that no two lists of texts are glued alike
        found.update(data)
    return found.digest()
