"""What one HTTP request costs its key, and what is recorded of its completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inference_service.api.errors import ApiError
from inference_service.api.service import Service
from inference_service.backends.base import ModelCard
from inference_service.engine.request import Chunk, CompletionRequest, Stats
from inference_service.events.records import Completion, Texts, language_of
from inference_service.guard.admission import estimated_tokens
from inference_service.guard.principal import Principal
from inference_service.guard.quotas import QuotaExceeded, Reservation


@dataclass(slots=True)
class _Made:
    chars: int = 0
    line_ends: int = 0
    tokens: int = 0
    texts: list[str] = field(default_factory=list)


class Ledger:
    """Of the completions that `requests` ask for, all of `principal`."""

    def __init__(self, service: Service, principal: Principal, requests: Sequence[CompletionRequest]) -> None:
        self._quotas = service.stores.quotas
        self._events = service.stores.events
        self._card = service.backend.model
        self._arm = ""
        self._principal = principal
        self._requests = requests
        self._made = [_Made() for _ in requests]
        self._reservation: Reservation | None = None
        self._used = 0

    def served_by(self, card: ModelCard, arm: str) -> None:
        """Which version answers, and in which arm of an experiment; known once the request is admitted."""
        self._card, self._arm = card, arm

    async def reserve(self) -> None:
        """Take the request from the key's quotas. Raises ApiError 429."""
        if self._quotas is None:
            return
        window = self._card.context_length
        tokens = sum(estimated_tokens(chars(request), window) + request.max_tokens for request in self._requests)
        try:
            self._reservation = await self._quotas.reserve(self._principal, self._requests[0].id, tokens)
        except QuotaExceeded as exceeded:
            retry = {"Retry-After": str(exceeded.retry_after_s)}
            raise ApiError(429, "quota_exceeded", str(exceeded), headers=retry) from None

    async def settle(self, *, served: bool) -> None:
        """Give back what was not used; everything, when it was not served."""
        if self._quotas is not None and self._reservation is not None:
            await self._quotas.settle(self._reservation, self._used if served else None)
            self._reservation = None

    def add(self, index: int, chunk: Chunk) -> None:
        """A piece of a completion, or its end."""
        made = self._made[index]
        made.chars += len(chunk.text)
        made.line_ends += chunk.text.count("\n")
        made.tokens += len(chunk.token_logprobs)
        if self._events.keeps_texts:
            made.texts.append(chunk.text)
        if chunk.finish_reason:
            self._end(index, chunk.finish_reason, chunk.stats or Stats(completion_tokens=made.tokens))

    def abandoned(self, index: int) -> None:
        """Its client has gone; what it had shown by then may still be accepted."""
        made = self._made[index]
        prompt = estimated_tokens(chars(self._requests[index]), self._card.context_length) if made.tokens else 0
        self._end(index, "aborted", Stats(prompt_tokens=prompt, completion_tokens=made.tokens))

    def _end(self, index: int, reason: str, stats: Stats) -> None:
        request, made = self._requests[index], self._made[index]
        self._used += stats.prompt_tokens + stats.completion_tokens
        if not made.chars:
            return
        tenant = self._principal.tenant
        completion = Completion(
            id=request.id,
            tenant=tenant,
            key_id=self._principal.key_id,
            model=self._card.name,
            model_version=self._card.version,
            language=language_of(request.language, request.path),
            finish_reason=reason,
            prompt_tokens=stats.prompt_tokens,
            cached_tokens=stats.cached_tokens,
            completion_tokens=stats.completion_tokens,
            lines=made.line_ends + 1,
            chars=made.chars,
            arm=self._arm,
        )
        texts = None
        if self._events.keeps_texts:
            texts = Texts(request.id, tenant, request.prompt, request.suffix, "".join(made.texts))
        self._events.completed(completion, texts)


def chars(request: CompletionRequest) -> int:
    """Characters of all that makes up the prompt."""
    context = sum(len(item.path) + len(item.text) for item in request.context)
    return len(request.prompt) + len(request.suffix or "") + context
