"""Server-sent events of one streamed answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inference_service.api import results as shapes
from inference_service.api.answer import Answer
from inference_service.api.errors import ApiError, ClientGone
from inference_service.api.run import Run
from inference_service.engine.request import Chunk
from inference_service.logs import request_fields

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_WRITE_TIMEOUT_S = 30.0  # a client that reads nothing for so long is treated as gone
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

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer
        held = answer.held
        started = False

        async def write(events: Iterable[dict[str, Any]], end: bytes = b"") -> None:
            body = b"".join(map(_event, events)) + end
            if not body:
                return
            try:
                async with asyncio.timeout(_WRITE_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": body, "more_body": not end})
            except TimeoutError:
                raise ClientGone from None

        async with self._run as run:
            async for batch in run.batches():
                if not started:
                    if isinstance(batch[0][1], ApiError):
                        raise batch[0][1]
                    await send({"type": "http.response.start", "status": 200, "headers": self._start_headers(scope)})
                    started = True
                    if answer.body.echo and not held:
                        echoes = [answer.part(index, answer.echoed(index)) for index in range(self._left)]
                        await write(echo | self._no_usage for echo in echoes)
                await write(self._take(batch, held))
        request_fields(scope).update(shapes.log_json(answer.results, answer.body.candidates))
        last = []
        if held:
            parts = answer.parts()
            parts[-1] |= answer.totals()
            last += [part | self._no_usage for part in parts]
        if self._no_usage:
            last.append(answer.usage_only())
        await write(last, b"data: [DONE]\n\n")

    def _take(self, batch: list[Event], held: bool) -> list[dict[str, Any]]:
        answer = self._answer
        events: list[dict[str, Any]] = []
        for index, item in batch:
            result = answer.results[index]
            if isinstance(item, ApiError):
                self._left -= 1
                result.finish_reason = "error"
                events.append(item.body())
                continue
            if not (item.text or item.token_logprobs or item.finish_reason):
                continue
            self._left -= item.finish_reason is not None
            if not held:
                part = answer.part(index, item.text, item.token_logprobs, item.finish_reason)
            result.add(item)
            if not held:
                events.append(part | ({} if self._left else answer.totals()) | self._no_usage)
        return events

    def _start_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        to_first = (time.monotonic() - scope["midfill.received"]) * 1000
        return [*self.raw_headers, (b"server-timing", f"first;dur={to_first:.2f}".encode())]


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
