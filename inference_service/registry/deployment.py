"""One model version that serves, and who is using it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from inference_service.backends.base import (
    Backend,
    BackendUnavailable,
    ModelCard,
    Probed,
    PromptTooLong,
    RequestRefused,
)
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason

BASE = "base"  # the model that `--model` or `--upstream` names
_ANSWERS: tuple[FinishReason, ...] = ("stop", "length", "deadline")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a completion ended: with an answer ("stop", "length", "deadline"), or "error".

    `seconds` from start to end; `text` is the whole answer; `computed` is False where it came from a cache.
    """

    request: CompletionRequest
    reason: FinishReason
    text: str
    seconds: float
    computed: bool


class Deployment:
    """A started backend under the service's public model name.

    `reference` is what the operator calls it: the version, or "base" for the model that `--model` names. Whoever is
    going to use it says `acquire` first and `release` at the end; `retired` waits for the last one.
    """

    def __init__(self, backend: Backend, reference: str, on_finish: Callable[[Deployment, Outcome], None]) -> None:
        self.backend = backend
        self.reference = reference
        self.name = ""  # "" = what the model itself is called
        self._on_finish = on_finish
        self._probed = backend if isinstance(backend, Probed) else None
        self._card: tuple[ModelCard, str, ModelCard] | None = None  # the backend's, the name, and what that makes
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def model(self) -> ModelCard:
        """The card, under the public name; its version is the registry's, where it comes from there."""
        card = self.backend.model
        if self._card is None or self._card[0] is not card or self._card[1] != self.name:
            version = card.version if self.reference == BASE else self.reference
            told = dataclasses.replace(card, name=self.name or card.name, version=version)
            self._card = card, self.name, told
        return self._card[2]

    def fault(self) -> BackendUnavailable | None:
        """Why nothing can be computed now, None when it can."""
        return self._probed.fault() if self._probed else None

    def acquire(self) -> None:
        """It will be used."""
        self._users += 1
        self._unused.clear()

    def release(self) -> None:
        """It is not used any more by one of those who acquired it."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def retired(self) -> None:
        """Wait until nobody uses it, then stop it."""
        await self._unused.wait()
        await self.backend.stop()

    def cancel(self, completion_id: str) -> bool:
        """As `Backend.cancel`."""
        return self.backend.cancel(completion_id)

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """As `Backend.complete`; tells what came of it."""
        if request.suffix is not None and not self.backend.model.supports_suffix:
            raise RequestRefused("suffix is not supported by this model, which was not trained to fill in", "suffix")
        started = time.monotonic()
        text: list[str] = []
        try:
            async with aclosing(self.backend.complete(request)) as chunks:
                async for chunk in chunks:
                    text.append(chunk.text)
                    if chunk.finish_reason in _ANSWERS or chunk.finish_reason == "error":
                        cached = chunk.stats is not None and chunk.stats.response_cached
                        self._finish(request, chunk.finish_reason, "".join(text), started, not cached)
                    yield chunk
        except (PromptTooLong, RequestRefused):
            raise
        except Exception:
            self._finish(request, "error", "", started, True)
            raise

    def _finish(
        self, request: CompletionRequest, reason: FinishReason, text: str, started: float, computed: bool
    ) -> None:
        self._on_finish(self, Outcome(request, reason, text, time.monotonic() - started, computed))
