"""The completions of one HTTP request: admitted together, watched together, and aborted together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from inference_service.api.errors import ApiError, ClientGone, internal, invalid, unavailable
from inference_service.api.ledger import Ledger, chars
from inference_service.api.service import Service
from inference_service.backends.base import BackendUnavailable, PromptTooLong, RequestRefused
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason, Stats
from inference_service.guard.admission import Reservation, estimated_tokens
from inference_service.logs import log, request_fields
from inference_service.registry.deployment import Deployment

# One HTTP request with many completions takes at most this share of the queue, so that a script does not
# starve the editors.
MAX_SLOTS = 8

_GONE = object()


@dataclass(slots=True)
class _Progress:
    tokens: int = 0
    emitted: float | None = None  # when the last tokens came
    started: bool = False
    finished: bool = False


class Run:
    """Async context manager around the completions of one HTTP request.

    Entering admits them (ApiError 429, 503) and starts them; leaving, for whatever reason, aborts what is
    unfinished and gives the slots back. A disconnect is noticed at once, streaming or not.
    """

    def __init__(self, service: Service, http: Request, requests: Sequence[CompletionRequest]) -> None:
        self.first = requests[0]  # alone carries the session
        self.id = self.first.id
        self.session = self.first.session
        self.deployment: Deployment  # the version of all its completions, chosen on admission
        self.slots = min(len(requests), MAX_SLOTS, service.settings.max_queue)
        self.reservation = Reservation(0, 0, 0)
        self._service = service
        self._http = http
        self._requests = requests
        self._progress = [_Progress() for _ in requests]
        self._events: list[Any] = []
        self._arrival: asyncio.Future[None] | None = None  # what `batches` waits for
        self._emitted = False
        self._gate = asyncio.Semaphore(self.slots)
        self._tasks: list[asyncio.Task[None]] = []
        self._cancelled = False
        self._superseded = False
        self._received: float = http.scope["midfill.received"]
        self._ledger = Ledger(service, http.scope["midfill.principal"], requests)

    async def __aenter__(self) -> Run:
        await self._ledger.reserve()
        try:
            self._service.admit(self)
        except ApiError:
            await self._ledger.settle(served=False)
            raise
        self._ledger.served_by(self.deployment.model, self._service.backend.arm(self.deployment))
        self._tasks = [asyncio.create_task(self._pump(index)) for index in range(len(self._requests))]
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()
        self._stop_tasks()
        try:
            if unfinished := [task for task in self._tasks if not task.done()]:
                await asyncio.gather(*unfinished, return_exceptions=True)
        finally:
            self._service.release(self)
            self._account_for_unfinished()
            await self._ledger.settle(served=True)

    def cost(self, context_length: int) -> tuple[int, int, float | None]:
        """Estimated tokens of the largest `slots` prompts, their output tokens, seconds to the first deadline."""
        sizes = sorted(
            ((estimated_tokens(chars(request), context_length), request.max_tokens) for request in self._requests),
            reverse=True,
        )[: self.slots]
        deadlines = [request.deadline for request in self._requests if request.deadline is not None]
        within_s = min(deadlines) - time.monotonic() if deadlines else None
        return sum(prompt for prompt, _ in sizes), sum(output for _, output in sizes), within_s

    def cancel(self) -> bool:
        """End every completion with `finish_reason` "cancelled"; False when all had ended."""
        unfinished = [
            request for request, done in zip(self._requests, self._progress, strict=True) if not done.finished
        ]
        self._cancelled = True
        for request in unfinished:
            self.deployment.cancel(request.id)
        return bool(unfinished)

    def supersede(self) -> None:
        """End every completion with `finish_reason` "superseded"."""
        self._superseded = True
        self.cancel()

    def shut_down(self) -> None:
        """End every unfinished completion with what it has, `finish_reason` "shutdown"."""
        self._end_unfinished("shutdown")

    async def batches(self) -> AsyncGenerator[list[tuple[int, Chunk | ApiError]], None]:
        """(index of the completion, chunk or why it failed), all that are there at a time, until all have ended.

        Raises ClientGone.
        """
        left = len(self._requests)
        while left:
            if not self._events:
                self._arrival = asyncio.get_running_loop().create_future()
                await self._arrival
            batch, self._events = self._events, []
            if _GONE in batch:
                raise ClientGone
            left -= sum(isinstance(item, ApiError) or item.finish_reason is not None for _, item in batch)
            yield batch
        exemplar = self._service.tracing.exemplar(self._http.scope)
        self._service.metrics.e2e.observe(time.monotonic() - self._received, exemplar)

    async def _pump(self, index: int) -> None:
        request = self._requests[index]
        last: Chunk | None = None
        async with self._gate:
            if self._cancelled:
                self._put(index, Chunk("", finish_reason="cancelled", stats=Stats()))
                return
            try:
                async with contextlib.aclosing(self.deployment.complete(request)) as chunks:
                    async for last in chunks:
                        if last.finish_reason == "error":
                            raise RuntimeError(last.error)
                        self._put(index, last)
                if last is None or last.finish_reason is None:
                    raise RuntimeError("the backend ended without a finish reason")
            except PromptTooLong as error:
                self._put(index, invalid("prompt", str(error)))
            except RequestRefused as error:
                self._put(index, invalid(error.param, str(error)))
            except BackendUnavailable as error:
                log("backend unavailable", level=logging.WARNING, reason=str(error), completion=request.id)
                self._put(index, unavailable("backend_unavailable", str(error), error.retry_after_s))
            except Exception as error:
                log("completion failed", level=logging.ERROR, exception=error, completion=request.id)
                self._put(index, internal())

    def _put(self, index: int, item: Chunk | ApiError) -> None:
        if isinstance(item, Chunk):
            if self._superseded and item.finish_reason == "cancelled":
                item = replace(item, finish_reason="superseded")
            self._account(index, item)
        else:
            self._progress[index].finished = True
        self._tell((index, item))
        if isinstance(item, Chunk) and item.finish_reason == "superseded":
            # Only the first completion carries the session; its siblings are of no use any more either.
            self._end_unfinished("superseded")

    async def _watch(self) -> None:
        while (await self._http.receive())["type"] != "http.disconnect":
            pass
        self._stop_tasks()
        self._tell(_GONE)

    def _tell(self, event: Any) -> None:
        """Hand an event to `batches`. A list and a future, because a queue costs several times as much for a token."""
        self._events.append(event)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _stop_tasks(self) -> None:
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _end_unfinished(self, reason: FinishReason) -> None:
        self._stop_tasks()
        for index, done in enumerate(self._progress):
            if not done.finished:
                self._put(index, Chunk("", finish_reason=reason, stats=Stats(completion_tokens=done.tokens)))

    def _account(self, index: int, chunk: Chunk) -> None:
        metrics = self._service.metrics
        done = self._progress[index]
        self._service.admission.started(self.reservation)
        if chunk.text or chunk.token_logprobs:
            if not self._emitted:
                self._emitted = True
                to_first = time.monotonic() - self._received
                metrics.first_token.observe(to_first, self._service.tracing.exemplar(self._http.scope))
                request_fields(self._http.scope)["ttft_ms"] = round(to_first * 1000, 2)
            done.started = True
            metrics.emitted(done.emitted, now := time.monotonic(), len(chunk.token_logprobs))
            done.emitted = now
        done.tokens += len(chunk.token_logprobs)
        self._ledger.add(index, chunk)
        if chunk.finish_reason is None:
            return
        done.finished = True
        stats = chunk.stats or Stats(completion_tokens=done.tokens)
        metrics.record(stats)
        self._service.tracing.completion(self._http.scope, stats, chunk.finish_reason)
        if chunk.finish_reason == "deadline":
            metrics.deadline_partial.inc()
        elif chunk.finish_reason == "superseded":
            metrics.superseded.inc()
            metrics.wasted_tokens.inc(stats.prompt_tokens - stats.cached_tokens + stats.completion_tokens)
        elif chunk.finish_reason == "cancelled":
            metrics.aborted.labels(stage=_stage(done)).inc()
            metrics.wasted_tokens.inc(stats.prompt_tokens - stats.cached_tokens + stats.completion_tokens)

    def _account_for_unfinished(self) -> None:
        metrics = self._service.metrics
        for index, done in enumerate(self._progress):
            if not done.finished:
                self._ledger.abandoned(index)
                metrics.aborted.labels(stage=_stage(done)).inc()
                metrics.generation_tokens.inc(done.tokens)
                metrics.wasted_tokens.inc(done.tokens)


def _stage(done: _Progress) -> str:
    return "decode" if done.started else "waiting"
