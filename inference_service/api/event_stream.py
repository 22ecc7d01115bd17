"""Server-sent events of one streamed answer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inference_service.api import results as shapes
from inference_service.api.answer import Answer
from inference_service.api.errors import ApiError
from inference_service.api.json_response import json_bytes
from inference_service.api.run import Run
from inference_service.engine.request import Chunk
from inference_service.logs import request_fields

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
Event = tuple[int, Chunk | ApiError]


class EventStream(Response):
    """Owns the run, so that nothing is left running whatever ends the response.

    All that is there when the connection takes data again leaves in one write. An answer that has to know its end
    before it can tell anything (`best_of`) sends each choice in one piece.
    """

    def __init__(self, run: Run, answer: Answer) -> None:
        super().__init__(headers=_HEADERS)
        self._run = run
        self._answer = answer
        # With include_usage every chunk has a usage field, which is null but in the extra last one.
        self._no_usage = {"usage": None} if answer.body.stream_options.include_usage else {}
        self._left = len(answer.results)
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer
        started = False
        async with self._run as run:
            async for batch in run.batches():
                if not started:
                    if isinstance(batch[0][1], ApiError):
                        raise batch[0][1]
                    await send({"type": "http.response.start", "status": 200, "headers": self._start_headers(scope)})
                    started = True
                    if answer.body.echo and not answer.held:
                        echoes = [answer.part(index, answer.echoed(index)) for index in range(self._left)]
                        await _write(send, map(self._event, echoes))
                await _write(send, self._take(batch))
        request_fields(scope).update(shapes.log_json(answer.sums))
        last: list[bytes] = []
        if answer.held:
            parts = answer.parts()
            parts[-1] |= answer.totals()
            last += map(self._event, parts)
        if self._no_usage:
            last.append(_event(answer.usage_only()))
        await send({"type": "http.response.body", "body": b"".join(last) + b"data: [DONE]\n\n"})

    def _take(self, batch: list[Event]) -> list[bytes]:
        answer = self._answer
        held, plain = answer.held, answer.body.logprobs is None
        events: list[bytes] = []
        for index, item in batch:
            result = answer.results[index]
            if isinstance(item, ApiError):
                self._left -= 1
                result.finish_reason = "error"
                events.append(_event(item.body()))
                continue
            if not (item.text or item.token_logprobs or item.finish_reason):
                continue
            self._left -= item.finish_reason is not None
            if held:
                result.add(item)
            elif plain and item.finish_reason is None:
                result.add(item)
                events.append(self._piece(index, item.text))
            else:
                part = answer.part(index, item.text, item.token_logprobs, item.finish_reason)
                result.add(item)
                events.append(self._event(part | ({} if self._left else answer.totals())))
        return events

    def _piece(self, index: int, text: str) -> bytes:
        """The event of nothing but some more text: all of it is known beforehand but the text, and how likely the
        choice is so far."""
        frame = self._frames.get(index)
        if frame is None:
            head, _, tail = self._event(self._answer.part(index, "")).partition(b'"text":""')
            frame = self._frames[index] = head + b'"text":', tail.rstrip().removesuffix(b"}")
        result = self._answer.results[index]
        likely = b""
        if result.logprobs and math.isfinite(result.total_logprob):
            likely = b',"mean_logprob":%.4f' % (result.total_logprob / len(result.logprobs))
        return b"".join((frame[0], json_bytes(text), frame[1], likely, b"}\n\n"))

    def _event(self, part: dict[str, Any]) -> bytes:
        return _event(part | self._no_usage)

    def _start_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        to_first = (time.monotonic() - scope["midfill.received"]) * 1000
        return [*self.raw_headers, (b"server-timing", f"first;dur={to_first:.2f}".encode())]


def _event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json_bytes(data)


async def _write(send: Send, events: Iterable[bytes]) -> None:
    if body := b"".join(events):
        await send({"type": "http.response.body", "body": body, "more_body": True})
