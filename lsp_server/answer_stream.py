"""The stream of `POST /v1/completions`, read to its end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsp_server.faults import ServiceFault, message_of
from lsp_server.sse import EventDecoder

if TYPE_CHECKING:
    import httpx

# A completion is a few hundred characters; anything near this is not one.
_LONGEST = 1_000_000
ENOUGH = "enough"
OnText = Callable[[str], bool | None]


@dataclass(frozen=True)
class Completion:
    """A finished answer. `finish_reason` is the service's: stop, length or deadline; or ENOUGH where we ended it.

    `confidence` is the model's probability per token, 0 to 1, as a geometric mean; None where the service does
    not tell. `queue_ms` is how long the service had it wait.
    """

    completion_id: str
    text: str
    finish_reason: str
    confidence: float | None
    queue_ms: float = 0.0


class AnswerStream:
    """Reads one answer, each piece to `on_text`, which says whether that is enough. `completion_id` is known after the
    first piece."""

    def __init__(self, base_url: str, on_text: OnText) -> None:
        self.base_url = base_url
        self.completion_id = ""
        self._on_text = on_text

    async def collect(self, response: httpx.Response) -> Completion | None:
        """The whole answer; None if it was superseded. Raises ServiceFault."""
        decoder = EventDecoder()
        texts: list[str] = []
        finish, confidence, queue_ms = None, None, 0.0
        received = 0
        async for chunk in response.aiter_bytes():
            received += len(chunk)
            if received > _LONGEST:
                break
            try:
                for payload in decoder.feed(chunk):
                    if payload == "[DONE]":
                        if finish is None:
                            break
                        if finish == "shutdown":
                            raise ServiceFault(f"{self.base_url} is shutting down", lasting=False)
                        if finish in ("superseded", "cancelled"):
                            return None
                        return Completion(self.completion_id, "".join(texts), finish, confidence, queue_ms)
                    event = json.loads(payload)
                    if "error" in event:
                        raise ServiceFault(f"{self.base_url} stopped: {message_of(event)}")
                    self.completion_id = str(event["id"])
                    choice = event["choices"][0]
                    texts.append(str(choice["text"]))
                    told = event.get("midfill", {})
                    if isinstance(logprob := told.get("mean_logprob", event.get("mean_logprob")), int | float):
                        confidence = math.exp(min(logprob, 0.0))
                    if self._on_text(texts[-1]):
                        return Completion(self.completion_id, "".join(texts), ENOUGH, confidence)
                    finish = choice.get("finish_reason") or finish
                    queue_ms = float(told.get("queue_ms") or 0.0)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise ServiceFault(f"{self.base_url} sent something that is not a completion stream") from error
        raise ServiceFault(f"{self.base_url} broke off in the middle of an answer")
