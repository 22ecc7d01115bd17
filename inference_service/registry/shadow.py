"""Copies of requests for a candidate whose answers nobody sees."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable

from inference_service.engine.request import CompletionRequest
from inference_service.registry.deployment import Deployment, Outcome

_MOST_AT_ONCE = 4  # more would take the processor from those who wait for an answer
_TIMEOUT_S = 30.0
_LOWEST_PRIORITY = 100


class Shadow:
    """Sends copies to one deployment, a few at a time; what comes on top is left out."""

    def __init__(self, compared: Callable[[bool], None], skipped: Callable[[], None]) -> None:
        self._compared, self._skipped = compared, skipped
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, outcome: Outcome, candidate: Deployment) -> None:
        """Compute what `outcome` answered once more; greedy answers are compared."""
        if len(self._tasks) >= _MOST_AT_ONCE:
            self._skipped()
            return
        candidate.acquire()
        task = asyncio.create_task(self._compute(outcome, candidate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: candidate.release())

    def stop(self) -> None:
        """End the copies in progress."""
        for task in self._tasks:
            task.cancel()

    async def _compute(self, outcome: Outcome, candidate: Deployment) -> None:
        original = outcome.request
        request = dataclasses.replace(
            original, id=f"shadow-{uuid.uuid4().hex}", session=None, deadline=None, priority=_LOWEST_PRIORITY
        )
        text, reason = "", None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                async for chunk in candidate.complete(request):
                    text += chunk.text
                    reason = chunk.finish_reason
        except Exception:
            return  # the candidate has counted it
        if comparable(original) and outcome.reason in ("stop", "length") and reason in ("stop", "length"):
            self._compared(text == outcome.text)


def comparable(request: CompletionRequest) -> bool:
    """Whether two models could be expected to say the same."""
    return request.temperature == 0
