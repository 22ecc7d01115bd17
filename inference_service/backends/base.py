"""What the API needs from whatever computes completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from inference_service.engine.request import Chunk, CompletionRequest


class PromptTooLong(ValueError):
    """The backend does not cut prompts and this one exceeds its context; the message says the limit."""


class RequestRefused(ValueError):
    """The model cannot do what this request asks for; `param` is the field, the message what to change."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BackendUnavailable(RuntimeError):
    """Nothing can be computed now; the message says why, `retry_after_s` when to try again."""

    def __init__(self, message: str, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The served model: `version` is a short content digest, `context_length` in tokens."""

    name: str
    version: str
    context_length: int
    supports_suffix: bool


@runtime_checkable
class Probed(Protocol):
    """A backend that can be gone for a while."""

    def fault(self) -> BackendUnavailable | None:
        """Why it cannot be used now, None when it can."""
        ...


class Backend(Protocol):
    """A source of completions. One instance serves all requests of a process."""

    @property
    def model(self) -> ModelCard: ...

    def info(self) -> dict[str, Any]:
        """Device, kernels, cache sizes: everything for `/info`, nothing secret."""
        ...

    def gauges(self) -> dict[str, float]:
        """Instant values by metric name without the namespace, e.g. `num_requests_running`."""
        ...

    async def start(self) -> None:
        """Load and warm up. Raises on a model that cannot be served."""
        ...

    async def stop(self) -> None: ...

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        """Stream the completion. Closing the generator early aborts the work within one engine step.

        Raises PromptTooLong before the first chunk (the local engine cuts instead), RequestRefused likewise, and
        BackendUnavailable at any time.
        """
        ...

    def cancel(self, completion_id: str) -> bool:
        """End a running completion with `finish_reason` "cancelled"; False when it is not running."""
        ...
