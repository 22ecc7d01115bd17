"""A backend that follows a script: it lets the tests decide delays, faults and endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from inference_service.backends.base import ModelCard, PromptTooLong
from inference_service.engine.request import Chunk, CompletionRequest, Stats

VERSION = "0123abcd"


@dataclass
class ScriptedBackend:
    """Generates `tokens` words, one each `interval_s`.

    A prompt that starts with "TOO LONG", "FAULT" or "LATE FAULT" has the fault named. `aborted` are the ids
    whose generator was closed early; `started` is set at each start of a completion. Where it is `held`, no
    completion goes on before a test sets `released`.
    """

    tokens: int = 3
    interval_s: float = 0.0
    prefill_s: float = 0.0
    load_s: float = 0.0
    load_error: Exception | None = None
    supports_suffix: bool = True
    stalled_s: float = 0.0
    held: bool = False
    requests: list[CompletionRequest] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)  # id → reason to end with, "" = go on
    aborted: list[str] = field(default_factory=list)
    most_running: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.started, self.released = asyncio.Event(), asyncio.Event()

    @property
    def model(self) -> ModelCard:
        return ModelCard("nano", VERSION, 1024, self.supports_suffix)

    def info(self) -> dict[str, Any]:
        return {"device": "cpu", "kernels": "scripted"}

    def gauges(self) -> dict[str, float]:
        return {
            "num_requests_running": len(self.running),
            "kv_cache_usage_ratio": 0.25,
            "engine_stalled_seconds": self.stalled_s,
        }

    async def start(self) -> None:
        await asyncio.sleep(self.load_s)
        if self.load_error:
            raise self.load_error

    async def stop(self) -> None:
        self.stopped = True

    def cancel(self, completion_id: str) -> bool:
        if completion_id not in self.running:
            return False
        self.running[completion_id] = "cancelled"
        return True

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        if request.prompt.startswith("TOO LONG"):
            raise PromptTooLong("prompt needs more than the 1024 tokens of the model")
        if request.prompt.startswith("FAULT"):
            raise RuntimeError(f"cannot compute {request.prompt}")
        for other in self.requests[:-1]:
            if request.session is not None and other.session == request.session and other.id in self.running:
                self.running[other.id] = "superseded"
        self.running[request.id] = ""
        self.most_running = max(self.most_running, len(self.running))
        self.started.set()
        finished = False
        try:
            await asyncio.sleep(self.prefill_s)
            if self.held:
                await self.released.wait()
            made = 0
            while made < min(self.tokens, request.max_tokens) and not self.running[request.id]:
                if self.interval_s:
                    await asyncio.sleep(self.interval_s)
                text = f" w{made}"
                made += 1
                yield Chunk(text, token_logprobs=((text, -0.5),))
                if request.prompt.startswith("LATE FAULT"):
                    raise RuntimeError(f"cannot compute {request.prompt}")
            finished = True
            reason: Any = self.running[request.id] or ("length" if made == request.max_tokens else "stop")
            stats = Stats(
                prompt_tokens=10,
                cached_tokens=4,
                completion_tokens=made,
                mean_logprob=-0.5 if made else None,
                queue_ms=1.0,
                prefill_ms=2.0,
                decode_ms=3.0,
            )
            yield Chunk("", finish_reason=reason, stats=stats)
        finally:
            del self.running[request.id]
            if not finished:
                self.aborted.append(request.id)
