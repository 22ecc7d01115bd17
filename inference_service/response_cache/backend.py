"""A backend in front of another one that answers what was answered before."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from inference_service.backends.base import Backend, BackendUnavailable, ModelCard, Probed
from inference_service.engine.request import Chunk, CompletionRequest, Stats
from inference_service.response_cache.cache import ResponseCache
from inference_service.response_cache.entry import Entry, mean, typed_through
from inference_service.response_cache.keys import Keys, is_repeatable


class CachedBackend:
    """Looks a repeatable request up before `backend` computes it, and keeps what it computed to the end."""

    def __init__(self, backend: Backend, cache: ResponseCache) -> None:
        self._backend, self._cache = backend, cache
        self._probed = backend if isinstance(backend, Probed) else None
        self._looking: set[str] = set()

    @property
    def model(self) -> ModelCard:
        return self._backend.model

    def info(self) -> dict[str, Any]:
        return self._backend.info()

    def gauges(self) -> dict[str, float]:
        return self._backend.gauges() | self._cache.gauges()

    def fault(self) -> BackendUnavailable | None:
        """As the backend's."""
        return self._probed.fault() if self._probed else None

    async def start(self) -> None:
        await self._backend.start()

    async def stop(self) -> None:
        await self._backend.stop()

    def cancel(self, completion_id: str) -> bool:
        if completion_id in self._looking:
            self._looking.remove(completion_id)
            return True
        return self._backend.cancel(completion_id)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        return self._repeatable(request) if is_repeatable(request) else self._backend.complete(request)

    async def _repeatable(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        wanted = Keys(request, self._backend.model.version)
        self._looking.add(request.id)
        try:
            known = await self._look_up(request, wanted)
            if request.id not in self._looking:
                yield Chunk("", finish_reason="cancelled", stats=Stats())
                return
        finally:
            self._looking.discard(request.id)
        if known is not None:
            yield Chunk(known.text, known.pieces)
            yield Chunk("", finish_reason=known.reason, stats=_stats(known))
            return
        text, pieces = "", list[tuple[str, float]]()
        async with aclosing(self._backend.complete(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
                pieces += chunk.token_logprobs
                if chunk.finish_reason in ("stop", "length"):
                    tokens = chunk.stats.prompt_tokens if chunk.stats else 0
                    self._cache.put(wanted, Entry(text, chunk.finish_reason, tokens, tuple(pieces)))
                yield chunk

    async def _look_up(self, request: CompletionRequest, wanted: Keys) -> Entry | None:
        found = await self._cache.find(wanted)
        answer = typed_through(found[1], request, found[0]) if found else None
        self._cache.count(hit=answer is not None, typed=answer is not None and found is not None and found[0] > 0)
        return answer


def _stats(entry: Entry) -> Stats:
    return Stats(
        prompt_tokens=entry.prompt_tokens,
        cached_tokens=entry.prompt_tokens,
        completion_tokens=len(entry.pieces),
        mean_logprob=mean(entry.pieces),
        response_cached=True,
    )
