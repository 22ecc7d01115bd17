"""The inference service over HTTP: one streamed completion, events, and what doctor asks.

HTTP/1.1 on purpose: there a cancelled request closes its connection, which is how the service learns that
nobody waits any more. httpx over HTTP/2 would keep the stream open. httpx is imported when the first client
is made, to keep it out of the time to `initialize`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

from lsp_server.answer_stream import ENOUGH, AnswerStream, Completion, OnText
from lsp_server.faults import ServiceFault, refusal_of, transport_fault
from lsp_server.network import Network
from lsp_server.redact import prepare, redact
from lsp_server.tokens import TokenError, Tokens

T = TypeVar("T")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

# The service's own limits; a deep path is most useful at its end.
_LONGEST_PATH = 1024
_LONGEST_LANGUAGE = 64
_CANCEL_S = 2.0
_REMEMBERED = 1000  # completions of which something may still be told
_SESSION = "X-Midfill-Session"  # by which load balancers find the replica that knows the document
_VARIETY = 0.8  # the temperature of alternatives
_NO_SUFFIX_S = 300.0  # for which a service is believed that its model cannot fill in; it may get another one


@dataclass(frozen=True)
class ContextFile:
    """Part of another file that helps to complete this one."""

    path: str
    text: str


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked of `POST /v1/completions`.

    Of two requests of the same session and `purpose` the newer ends the older one. The smaller `priority` goes first.
    """

    prefix: str
    suffix: str
    path: str
    language: str
    mode: str
    max_tokens: int
    session: str
    context: tuple[ContextFile, ...] = ()
    priority: int = 0
    purpose: str = ""


class ServiceClient:
    """One service at `base_url`. `timeout_ms` bounds a whole completion; `redacts` keeps secrets from being sent.

    Raises NetworkSettingsError when a file that `network` names cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        tokens: Tokens,
        timeout_ms: int,
        network: Network = Network(),  # noqa: B008 (frozen)
        redacts: bool = True,
    ) -> None:
        self.base_url = base_url
        self._tokens = tokens
        self._timeout_s = timeout_ms / 1000
        self._redacts = redacts
        if redacts:
            prepare()
        self._http = network.client(base_url, self._timeout_s)
        self._cancelling: set[asyncio.Task[None]] = set()
        self._sessions: dict[str, str] = {}  # of the last completions, by their ids
        self._fills_in_from = float("-inf")

    @property
    def fills_in(self) -> bool:
        """Whether the service is given what stands after the cursor: not where its model was not trained to fill in."""
        return time.monotonic() >= self._fills_in_from

    async def complete(self, request: CompletionRequest, on_text: OnText = lambda piece: None) -> Completion | None:
        """Stream one completion to its end, or until `on_text`, which is given each piece, says that it is enough; None
        if the service superseded it.

        Cancelling the task closes the connection. Raises ServiceFault for anything but a whole answer.
        """
        body, headers = self._asked(request)
        try:
            async with asyncio.timeout(self._timeout_s):
                completion = await self._filled_in(body, lambda: self._stream(body, headers, on_text))
        except TimeoutError:
            raise ServiceFault(f"{self.base_url} did not answer within {self._timeout_s:g} s") from None
        if completion:
            self._remember(completion.completion_id, request.session)
        return completion

    async def alternatives(self, request: CompletionRequest, count: int) -> list[tuple[str, str]]:
        """`count` sampled completions, ids and texts, which may be alike. Raises ServiceFault."""
        body, headers = self._asked(request)
        body |= {"n": count, "temperature": _VARIETY, "top_p": 0.95, "stream": False}
        answer = await self._filled_in(body, lambda: self._call("POST", "/v1/completions", body, headers))
        try:
            self._remember(str(answer["id"]), request.session)
            return [(str(answer["id"]), str(choice["text"])) for choice in answer["choices"]]
        except (KeyError, TypeError) as error:
            raise ServiceFault(f"{self.base_url} sent something that is not a completion") from error

    async def _filled_in(self, body: dict[str, Any], ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` brings, without the suffix in `body` where the service does not take one. Raises ServiceFault."""
        try:
            return await ask()
        except ServiceFault as fault:
            if fault.param != "suffix":
                raise
        self._fills_in_from = time.monotonic() + _NO_SUFFIX_S
        body.pop("suffix", None)
        return await ask()

    def _asked(self, request: CompletionRequest) -> tuple[dict[str, Any], dict[str, str]]:
        """Body and headers."""
        prefix, suffix = _well_formed(request.prefix), _well_formed(request.suffix)
        if self._redacts:
            # Together, because the cursor may stand inside a key.
            clean = redact(prefix + suffix, len(prefix), request.path)
            prefix, suffix = clean[: len(prefix)], clean[len(prefix) :]
        body: dict[str, Any] = {
            "prompt": prefix,
            "path": _well_formed(request.path)[-_LONGEST_PATH:],
            "language": _well_formed(request.language)[:_LONGEST_LANGUAGE],
            "mode": request.mode,
            "max_tokens": request.max_tokens,
            "temperature": 0,
            "session": f"{request.session}:{request.purpose}" if request.purpose else request.session,
            # The service hands over what it has in time for it to travel back before we give up.
            "deadline_ms": int(self._timeout_s * 900),
            "stream": True,
        }
        if self.fills_in:
            body["suffix"] = suffix
        if request.context:
            body["context"] = [
                {"path": _well_formed(file.path)[-_LONGEST_PATH:], "text": self._clean(file)}
                for file in request.context
            ]
        if request.priority:
            body["priority"] = request.priority
        return body, {_SESSION: request.session, "X-Request-Id": uuid.uuid4().hex}

    def _remember(self, completion_id: str, session: str) -> None:
        self._sessions[completion_id] = session
        if len(self._sessions) > _REMEMBERED:
            del self._sessions[next(iter(self._sessions))]

    def _of_session(self, completion_id: str) -> dict[str, str]:
        """Headers for what is about a completion: it goes where that was computed."""
        session = self._sessions.get(completion_id)
        return {_SESSION: session} if session else {}

    async def _stream(self, body: dict[str, Any], headers: dict[str, str], on_text: OnText) -> Completion | None:
        import httpx

        stream = AnswerStream(self.base_url, on_text)
        try:
            for attempt in (1, 2):
                token = await self._token()
                signed = {**headers, **_authorization(token)}
                async with self._http.stream("POST", "/v1/completions", json=body, headers=signed) as response:
                    if response.status_code == 401 and attempt == 1 and await self._has_another(token):
                        continue
                    if response.status_code == 409:
                        return None
                    if response.status_code != 200:
                        raise refusal_of(self.base_url, response, await response.aread())
                    completion = await stream.collect(response)
                if completion is not None and completion.finish_reason == ENOUGH:
                    self._cancel_later(completion.completion_id)
                return completion
            raise AssertionError("unreachable: the second attempt returns or raises")
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise transport_fault(self.base_url, error) from error
        except asyncio.CancelledError:
            # The closed connection says so too, but a proxy on the way may keep its own one open.
            if stream.completion_id:
                self._remember(stream.completion_id, headers[_SESSION])
                self._cancel_later(stream.completion_id)
            raise

    def _cancel_later(self, completion_id: str) -> None:
        if self._http.is_closed:
            return  # with all its connections, which says the same
        task = asyncio.ensure_future(self._cancel(completion_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, completion_id: str) -> None:
        # Without an answer there is nothing to do about it: the service notices the closed connection.
        with contextlib.suppress(ServiceFault, TimeoutError):
            async with asyncio.timeout(_CANCEL_S):
                path = f"/v1/completions/{quote(completion_id, safe='')}"
                await self._call("DELETE", path, None, self._of_session(completion_id))

    async def post_event(self, completion_id: str, event: str, accepted_chars: int | None = None) -> None:
        """Report what became of a completion. Raises ServiceFault."""
        body: dict[str, Any] = {"completion_id": completion_id, "event": event}
        if accepted_chars is not None:
            body["accepted_chars"] = accepted_chars
        await self._call("POST", "/v1/events", body, self._of_session(completion_id))

    async def check_ready(self) -> None:
        """Raises ServiceFault, with the service's own reason, unless it would take a completion now."""
        await self._call("GET", "/readyz", None)

    async def models(self) -> list[str]:
        """The ids of the models. Raises ServiceFault."""
        answer = await self._call("GET", "/v1/models", None)
        try:
            return [str(model["id"]) for model in answer["data"]]
        except (KeyError, TypeError) as error:
            raise ServiceFault(f"{self.base_url} answers, but not as a Midfill service does") from error

    async def context_length(self) -> int | None:
        """The tokens that prompt and completion may have together; None if the service does not tell.

        Raises ServiceFault.
        """
        told = await self._call("GET", "/info", None)
        model = told.get("model") if isinstance(told, dict) else None
        length = model.get("context_length") if isinstance(model, dict) else None
        return length if isinstance(length, int) and length > 0 else None

    async def warm_up(self) -> None:
        """Open a connection, so that the next request need not. Raises ServiceFault."""
        await self._call("GET", "/livez", None)

    async def close(self) -> None:
        """Close all connections; streams in progress fail."""
        await asyncio.gather(*self._cancelling)
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str] | None = None
    ) -> Any:
        import httpx

        headers = headers or {}
        try:
            token = await self._token()
            response = await self._http.request(method, path, json=body, headers={**headers, **_authorization(token)})
            if response.status_code == 401 and await self._has_another(token):
                token = await self._token()
                signed = {**headers, **_authorization(token)}
                response = await self._http.request(method, path, json=body, headers=signed)
        except httpx.HTTPError as error:
            raise transport_fault(self.base_url, error) from error
        if response.is_error:
            raise refusal_of(self.base_url, response, response.content)
        try:
            return response.json() if response.content else None
        except ValueError:
            return None

    def _clean(self, file: ContextFile) -> str:
        return _redacted_file(file) if self._redacts else _well_formed(file.text)

    async def _token(self) -> str:
        try:
            return await self._tokens.get()
        except TokenError as error:
            raise ServiceFault(str(error)) from error

    async def _has_another(self, refused: str) -> bool:
        """Whether there is a key besides the one that the service refused."""
        return self._tokens.refused(refused) and await self._token() != refused


@lru_cache(maxsize=64)
def _redacted_file(file: ContextFile) -> str:
    """The same parts of other files go along with many requests."""
    return redact(_well_formed(file.text), path=file.path)


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _well_formed(text: str) -> str:
    """`text` without unpaired surrogates: a buffer may hold them, but neither UTF-8 nor a tokenizer can."""
    return _SURROGATE.sub("\ufffd", text)
