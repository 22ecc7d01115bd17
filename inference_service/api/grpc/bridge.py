"""One gRPC call as an ASGI request, and its events as messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from starlette.types import ASGIApp, Message

from inference_service.api.errors import ClientGone
from inference_service.api.grpc import midfill_pb2 as pb
from inference_service.http_server import SEND_TIMEOUT_S

_FORWARDED = frozenset(
    {"authorization", "x-api-key", "x-request-id", "x-midfill-session", "traceparent", "tracestate", "baggage"}
)
_PATH = "/v1/completions"
_MOST_UNREAD = 16  # writes: a caller that does not read holds the application up, as on a socket


class Refused(Exception):
    """The answer is an error: its HTTP status, its message, and `metadata` for the end of the call."""

    def __init__(self, status: int, error: dict[str, Any], retry_after: str | None = None) -> None:
        super().__init__(error["message"])
        self.status = status
        self.message: str = error["message"]
        found = {"error-code": error["code"], "error-param": error["param"], "retry-after": retry_after}
        self.metadata = tuple((name, value) for name, value in found.items() if value)


async def call(
    app: ASGIApp, request: pb.CompleteRequest, metadata: Iterable[tuple[str, str | bytes]]
) -> AsyncGenerator[pb.CompleteResponse, None]:
    """The parts of the answer. Closing it early is to the application a client that has left. Raises Refused."""
    body = _body(request)
    gone = asyncio.Event()
    received = False
    sent: asyncio.Queue[Message | None] = asyncio.Queue(_MOST_UNREAD)

    async def receive() -> Message:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if not sent.full():
            sent.put_nowait(message)
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await sent.put(message)
        except TimeoutError:
            raise ClientGone from None

    async def run() -> None:
        try:
            await app(_scope(metadata, len(body)), receive, send)
        finally:
            await sent.put(None)

    running = asyncio.create_task(run())
    try:
        start = await sent.get()
        if start is None:
            raise Refused(500, {"message": "internal error", "code": "internal_error", "param": None})
        chunks = _chunks(sent)
        if start["status"] != 200:
            error = json.loads(b"".join([chunk async for chunk in chunks]))["error"]
            retry_after = dict(start["headers"]).get(b"retry-after")
            raise Refused(start["status"], error, retry_after and retry_after.decode())
        async for chunk in chunks:
            for event in chunk.split(b"\n\n"):  # the application writes whole events
                if event and event != b"data: [DONE]":
                    yield _response(json.loads(event[6:]))
    finally:
        gone.set()
        while not running.done():  # it may be waiting for room to write
            while not sent.empty():
                sent.get_nowait()
            await asyncio.sleep(0)
            await asyncio.wait([running], timeout=0.01)


async def _chunks(sent: asyncio.Queue[Message | None]) -> AsyncGenerator[bytes, None]:
    while (message := await sent.get()) is not None:
        if message.get("body"):
            yield message["body"]


def _body(request: pb.CompleteRequest) -> bytes:
    fields = MessageToDict(request, preserving_proto_field_name=True)
    if "seed" in fields:
        fields["seed"] = request.seed  # JSON's protobuf mapping writes 64 bits as a string
    if len(request.prompt) == 1:
        fields["prompt"] = request.prompt[0]
    for item in fields.get("context", ()):
        item.setdefault("path", "")
        item.setdefault("text", "")
    return json.dumps(fields | {"stream": True}).encode()


def _scope(metadata: Iterable[tuple[str, str | bytes]], length: int) -> dict[str, Any]:
    headers = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in metadata
        if name in _FORWARDED
    ]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": "POST",
        "scheme": "http",
        "path": _PATH,
        "raw_path": _PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        "state": {},
    }


def _response(event: dict[str, Any]) -> pb.CompleteResponse:
    if "error" in event:
        raise Refused(500, event["error"])
    choice = event["choices"][0]
    logprobs = choice["logprobs"] or {"tokens": (), "token_logprobs": ()}
    response = pb.CompleteResponse(
        id=event["id"],
        model=event["model"],
        index=choice["index"],
        text=choice["text"],
        finish_reason=choice["finish_reason"] or "",
        tokens=[
            pb.Token(text=text, logprob=value)
            for text, value in zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
        ],
    )
    if usage := event.get("usage"):
        response.usage.CopyFrom(pb.Usage(**_same(usage, pb.Usage)))
    if accounting := event.get("midfill"):
        response.accounting.CopyFrom(pb.Accounting(**_same(accounting, pb.Accounting)))
    return response


def _same(found: dict[str, Any], message: Any) -> dict[str, Any]:
    """What of an object of the answer has a field of that name in the message."""
    return {name: found[name] for name in message.DESCRIPTOR.fields_by_name if name in found}
