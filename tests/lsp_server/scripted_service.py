"""A service that speaks the HTTP contract and does what a test tells it: delays, faults, half answers.

It stands in for a remote machine, not for a part of ours: what a real service does once in a blue moon (break
off, answer garbage, be saturated) happens here on demand, and it sees when a client goes away.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.lsp_server.loopback import PATIENT_S, LoopbackServer


@dataclass
class Reply:
    """What to answer to one `POST /v1/completions`.

    `pieces` are streamed with `piece_delay` seconds before each; `raw` replaces the stream by bytes, after
    which the connection ends; a `status` other than 200 answers with an error body instead, about the field `param`.
    Nothing is sent before `held`, if given, is set; or nothing but the first pieces, as many as `ahead`.
    """

    pieces: tuple[str, ...] = ("",)
    delay: float = 0.0
    piece_delay: float = 0.0
    finish: str = "stop"
    mean_logprob: float | None = -0.1
    status: int = 200
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    held: threading.Event | None = None
    ahead: int = 0


@dataclass
class Call:
    """One request that came in. `gone_after` is set when the client left before its answer was complete."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    gone_after: float | None = None


class ScriptedService(LoopbackServer):
    """Answers each completion with the next of `replies`, and with `default` when they are used up.

    With a `required_key`, whoever does not show it gets 401.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.replies: deque[Reply] = deque()
        self.default = Reply(("pass",))
        self.required_key: str | None = None
        self.unready = ""  # what /readyz says, if anything
        self.first_number = 1  # of the ids, which a server that outlives a test may remember
        self.context_length: int | None = None
        self.others: tuple[str, ...] = ()  # for who asks for several
        self.keeps_others = False  # who asks for several waits for ever
        self.calls: list[Call] = []
        self._changed = threading.Condition()
        super().__init__(port, tls)

    @property
    def completions(self) -> list[Call]:
        """The completion requests so far, but for those that ask for several."""
        return [call for call in self.calls if call.path == "/v1/completions" and "n" not in (call.body or {})]

    @property
    def events(self) -> list[Any]:
        """The bodies of the event reports so far."""
        return [call.body for call in self.calls if call.path == "/v1/events"]

    def answer(self, *texts: str, **reply: Any) -> None:
        """Set the default reply: one completion in these pieces."""
        self.default = Reply(pieces=texts, **reply)

    def wait(self, condition: Any, timeout: float = PATIENT_S) -> None:
        """Wait until `condition()` holds. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError("the service was not asked what the test expected")

    def reply_to(self, call: Call) -> Reply:
        """What to answer to this completion request."""
        return self.replies.popleft() if self.replies else self.default

    def _note(self, call: Call) -> None:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            call = Call(method, path, headers, json.loads(body) if body else None)
            if path == "/v1/completions" and "n" not in call.body and not self._refuses(call):
                await self._complete(call, reader, writer)
                continue
            self._note(call)
            if self.keeps_others and call.path == "/v1/completions":
                await reader.read()  # until the client has left
                return
            await self._respond(writer, *self._plain(call))

    def _refuses(self, call: Call) -> bool:
        wanted = self.required_key
        return bool(wanted) and call.headers.get("authorization") != f"bearer {wanted}".lower()

    def _plain(self, call: Call) -> tuple[int, Any]:
        if self._refuses(call):
            if call.path in ("/readyz", "/livez"):
                return 200, {}
            return 401, {"error": {"message": "unknown key", "type": "auth", "code": "no_key", "param": None}}
        if call.path == "/v1/completions":
            choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(self.others)]
            return 200, {"id": "cmpl-others", "choices": choices}
        if call.path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
        if call.path == "/readyz" and self.unready:
            return 503, {"error": {"message": self.unready}}
        if call.path == "/info" and self.context_length:
            return 200, {"model": {"context_length": self.context_length}}
        return 200, {}

    @staticmethod
    async def _respond(
        writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()

    async def _complete(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = self.reply_to(call)
        number = self.first_number + len(self.completions)
        self._note(call)
        began = time.monotonic()
        leaving = asyncio.ensure_future(reader.read(1))
        sending = asyncio.ensure_future(self._send(reply, number, writer))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                with self._changed:
                    call.gone_after = time.monotonic() - began
                    self._changed.notify_all()
                writer.close()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, reply: Reply, number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(reply.delay)
        if not reply.ahead:
            await self._release(reply)
        if reply.status != 200:
            error = {"message": f"scripted {reply.status}", "type": "x", "code": "x", "param": reply.param}
            await self._respond(writer, reply.status, {"error": error}, reply.headers)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if reply.raw is not None:
            self._chunk(writer, reply.raw)
            await writer.drain()
            writer.close()
            return
        for index, piece in enumerate(reply.pieces):
            if index == reply.ahead:
                await self._release(reply)
            await asyncio.sleep(reply.piece_delay)
            last = index == len(reply.pieces) - 1
            self._chunk(writer, event(number, piece, reply.finish if last else None, reply.mean_logprob))
            await writer.drain()
        self._chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    @staticmethod
    async def _release(reply: Reply) -> None:
        while reply.held and not reply.held.is_set():
            await asyncio.sleep(0.01)

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def event(number: int, text: str, finish: str | None = None, mean_logprob: float | None = -0.1) -> bytes:
    """One chunk of a stream, as the service sends it."""
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    chunk: dict[str, Any] = {"id": f"cmpl-{number}", "object": "text_completion", "model": "scripted"}
    chunk["choices"] = [choice]
    if finish:
        chunk["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunk["midfill"] = {"mean_logprob": mean_logprob, "queue_ms": 0, "prefill_ms": 1, "decode_ms": 1}
    elif mean_logprob is not None:
        chunk["mean_logprob"] = mean_logprob
    # Unescaped, as services do send it: U+2028 must not break a line of the stream.
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
