"""The backend that computes here: our engine behind an asynchronous interface."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from inference_service.backends.base import ModelCard
from inference_service.engine.request import Chunk, CompletionRequest
from inference_service.model.location import BadModel, resolve

if TYPE_CHECKING:
    from inference_service.engine.engine import Engine

_WARM_UP = CompletionRequest(prompt="def add(a, b):\n    return", suffix="\n", max_tokens=4)


class LocalBackend:
    """Serves one model directory. `start` has to be awaited before `complete`."""

    def __init__(self, model: str, device: str = "auto", threads: int = 0, kv_cache: str = "auto") -> None:
        self._path = resolve(model)
        self._device, self._threads, self._kv_cache = device, threads, kv_cache
        self._engine: Engine | None = None
        self._made: deque[tuple[asyncio.Queue[Chunk], Chunk]] = deque()  # by the engine's thread, for the event loop
        self._handing_over = False

    @property
    def model(self) -> ModelCard:
        return self._card

    async def start(self) -> None:
        """Load, check and warm up. Raises BadModel, also for a device that is not there."""
        self._engine = await asyncio.to_thread(self._load)
        suffix = _WARM_UP.suffix if self._card.supports_suffix else None
        async for chunk in self.complete(dataclasses.replace(_WARM_UP, suffix=suffix)):
            if chunk.finish_reason == "error":
                await self.stop()
                raise BadModel(f"{self._path} cannot complete anything: {chunk.error}")

    def _load(self) -> Engine:
        # late, because they bring torch: the service answers /livez meanwhile
        from inference_service.engine.engine import Engine
        from inference_service.engine.runner import Runner
        from inference_service.model import loading

        loaded = loading.load(self._path)
        supports_suffix = loaded.tokenizer.fim.infill is not None
        self._runner = Runner(loaded, self._device, self._threads, self._kv_cache)
        self._card = ModelCard(loaded.name, loaded.version, self._runner.context_length, supports_suffix)
        return Engine(self._runner, loaded.tokenizer, loaded.version)

    async def stop(self) -> None:
        if self._engine is not None:
            await asyncio.to_thread(self._engine.stop)

    def info(self) -> dict[str, Any]:
        return {
            "device": self._runner.device.type,
            "kernel": self._runner.kernel,
            "threads": self._runner.threads,
            "kv_cache": self._runner.cache_type,
            "kv_cache_tokens": self._runner.cache_tokens,
            "architecture": self._runner.config.to_dict(),
        }

    def gauges(self) -> dict[str, float]:
        engine = self._engine
        return engine.gauges() if engine else {}

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        assert self._engine is not None, "start() first"
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk] = asyncio.Queue()

        def emit(chunk: Chunk) -> None:
            self._made.append((chunks, chunk))
            # one call wakes the loop for all chunks of a step; it may be gone when the process is going down
            if not self._handing_over and not loop.is_closed():
                self._handing_over = True
                loop.call_soon_threadsafe(self._hand_over)

        self._engine.submit(request, emit)
        try:
            while True:
                chunk = await chunks.get()
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            self._engine.cancel(request.id)

    def _hand_over(self) -> None:
        self._handing_over = False  # before the first is taken: what is made meanwhile is taken, or calls again
        while self._made:
            chunks, chunk = self._made.popleft()
            chunks.put_nowait(chunk)

    def cancel(self, completion_id: str) -> bool:
        return self._engine is not None and self._engine.cancel(completion_id)
