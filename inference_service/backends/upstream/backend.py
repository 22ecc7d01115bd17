"""The backend that lets another server compute, with our rules about stopping, deadlines and cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any, cast

import httpx

from inference_service.backends.base import BackendUnavailable, ModelCard
from inference_service.backends.upstream.prompt import FAMILIES, SUFFIX_FIELD, build_body, supports_suffix
from inference_service.backends.upstream.stream import Piece, check, pieces
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason, Stats
from inference_service.engine.stopping import StopDetector
from inference_service.logs import log
from inference_service.settings import SettingsError, without_password

_PROBE_S = 2.0
_CONNECT_S = 3.0
_UNKNOWN_CONTEXT = 4096
# Far more than a completion may take, but a server that hangs must not hold its callers for ever.
_SILENCE_S = 60.0


class _Stale(httpx.TransportError):
    """The connection ended before the answer began."""


_Event = Piece | FinishReason | Exception


class UpstreamBackend:
    """Any OpenAI-compatible server at `url` (with or without /v1).

    `fim` says how a suffix is told: "" not at all, "suffix" in the field of that name, or a family of model/fim.py
    whose template is written into the prompt. Raises SettingsError for an address or a `fim` that cannot be used.
    """

    def __init__(self, url: str, model: str = "", key: str = "", fim: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"--upstream must be an http:// or https:// address, not {without_password(url)!r}")
        if fim not in ("", SUFFIX_FIELD, *FAMILIES):
            raise SettingsError(f"--upstream-fim must be {SUFFIX_FIELD} or one of {', '.join(FAMILIES)}, not {fim!r}")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._wanted, self._fim = model, fim
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._running: dict[str, asyncio.Queue[_Event]] = {}
        self._card = ModelCard(model or "upstream", "unknown", _UNKNOWN_CONTEXT, supports_suffix(fim))
        self._midfill = False
        self._healthy = False
        self._faults = 0
        self._http: httpx.AsyncClient | None = None
        self._prober: asyncio.Task[None] | None = None

    @property
    def model(self) -> ModelCard:
        return self._card

    def info(self) -> dict[str, Any]:
        shown = without_password(self._url)
        return {"device": "upstream", "upstream": shown, "fim": self._fim or None, "healthy": self._healthy}

    def gauges(self) -> dict[str, float]:
        return {
            "num_requests_running": len(self._running),
            "upstream_up": float(self._healthy),
            "upstream_faults_total": self._faults,
        }

    def fault(self) -> BackendUnavailable | None:
        """Why it cannot be used now, as the last probe saw it."""
        return None if self._healthy else BackendUnavailable("the upstream server does not answer")

    async def start(self) -> None:
        """Wait until the server answers: it may still be loading its model. Raises SettingsError for a wrong model."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        self._http = httpx.AsyncClient(
            base_url=self._url, headers=self._headers, limits=limits, timeout=timeout, trust_env=False
        )
        if not await self._probe():
            log("waiting for the upstream", level=logging.WARNING, url=without_password(self._url))
            while not await self._probe():  # noqa: ASYNC110 (nobody tells when the other server is up)
                await asyncio.sleep(_PROBE_S)
        self._prober = asyncio.create_task(self._keep_probing())

    async def stop(self) -> None:
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)
        for events in self._running.values():
            events.put_nowait("shutdown")
        if self._http is not None:
            await self._http.aclose()

    def cancel(self, completion_id: str) -> bool:
        events = self._running.get(completion_id)
        if events is None:
            return False
        events.put_nowait("cancelled")
        return True

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        body = build_body(request, self._card.name, self._fim, self._card.context_length, self._midfill)
        events: asyncio.Queue[_Event] = asyncio.Queue()
        self._running[request.id] = events
        reader = asyncio.create_task(self._read(body, events))
        try:
            async for chunk in _chunks(request, events):
                yield chunk
        finally:
            del self._running[request.id]
            # closes the connection, which is how an OpenAI-compatible server learns that nobody reads any more
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, body: dict[str, Any], events: asyncio.Queue[_Event]) -> None:
        try:
            try:
                await self._stream(body, events)
            except _Stale:  # a kept connection that the server has closed meanwhile; nothing was computed
                await self._stream(body, events)
            events.put_nowait("stop")
        except httpx.TimeoutException:
            self._failed(events, BackendUnavailable("the upstream server did not answer in time"))
        except httpx.HTTPError as error:
            self._healthy = self._healthy and not isinstance(error, httpx.ConnectError)
            self._failed(events, BackendUnavailable(f"the upstream server cannot be reached ({type(error).__name__})"))
        except Exception as error:
            self._failed(events, error)

    async def _stream(self, body: dict[str, Any], events: asyncio.Queue[_Event]) -> None:
        assert self._http is not None, "start() first"
        response = None
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                await check(response)
                async for piece in pieces(response):
                    events.put_nowait(piece)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            if response is None:
                raise _Stale(str(error)) from error
            raise

    def _failed(self, events: asyncio.Queue[_Event], error: Exception) -> None:
        self._faults += isinstance(error, BackendUnavailable)
        events.put_nowait(error)

    async def _keep_probing(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_S)
            with contextlib.suppress(SettingsError):  # the model has gone: told by the log, and by each request
                await self._probe()

    async def _probe(self) -> bool:
        """Ask for the models: every one of these servers answers that, and only once it is loaded."""
        assert self._http is not None
        try:
            response = await self._http.get("/v1/models", timeout=_CONNECT_S)
            if response.status_code in (401, 403):
                raise SettingsError("the upstream server does not accept our key: set MIDFILL_UPSTREAM_KEY")
            response.raise_for_status()
            models = {str(entry["id"]): entry for entry in response.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, SettingsError):
                raise
            self._seen(False, type(error).__name__)
            return False
        name = self._wanted or next(iter(models), "")
        if name not in models:
            self._seen(False, "model not served")
            known = ", ".join(sorted(models)) or "none"
            raise SettingsError(f"the upstream server does not serve the model {name!r}; it has {known}")
        self._describe(name, models[name])
        self._seen(True, "")
        return True

    def _seen(self, healthy: bool, why: str) -> None:
        if healthy != self._healthy:
            log("upstream up" if healthy else "upstream down", level=logging.WARNING, reason=why)
        self._healthy = healthy

    def _describe(self, name: str, entry: dict[str, Any]) -> None:
        self._midfill = entry.get("owned_by") == "midfill"
        meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
        # as vLLM and SGLang, ourselves, and llama.cpp call it
        lengths = (entry.get("max_model_len"), entry.get("context_length"), (meta or {}).get("n_ctx"))
        length = next((value for value in lengths if isinstance(value, int) and value > 0), _UNKNOWN_CONTEXT)
        # a server that is not ours does not say what its weights are; a name is all that can be told apart
        version = entry.get("version") or hashlib.sha256(name.encode()).hexdigest()[:12]
        suffix = bool(entry.get("supports_suffix")) if self._midfill else supports_suffix(self._fim)
        self._card = ModelCard(name, str(version), length, suffix)


async def _chunks(request: CompletionRequest, events: asyncio.Queue[_Event]) -> AsyncGenerator[Chunk, None]:
    """Apply our own stop rules and the deadline. The end of the generator is the end of the request."""
    stopping = StopDetector(request.prompt, request.mode, request.stop)
    begun, first = time.monotonic(), None
    logprobs: list[float] = []
    pieces_seen = 0
    usage: dict[str, Any] = {}
    reason: FinishReason | None = None
    while True:
        event = await _next(events, request.deadline)
        if isinstance(event, Exception):
            raise event
        if not isinstance(event, Piece):
            reason = reason or event  # the stream is over, or somebody ended it
            break
        usage = event.usage or usage
        pieces_seen += bool(event.text)
        if event.text or event.logprobs:
            first = first or time.monotonic()
            logprobs += [value for _, value in event.logprobs]
            send, ended = stopping.push(event.text)
            if send or event.logprobs:
                yield Chunk(send, event.logprobs)
            if ended:
                reason = "stop"
                break
        if event.reason is not None:
            # only "length" tells a completion apart that has not come to its end; others have names of their own
            reason = "length" if event.reason == "length" else cast(FinishReason, _OURS.get(event.reason, "stop"))
    ends_itself = reason in ("stop", "length", "deadline")
    text = stopping.finish(whole_lines=reason == "deadline") if ends_itself else ""
    now = time.monotonic()
    details = usage.get("prompt_tokens_details") or {}
    stats = Stats(
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or len(logprobs) or pieces_seen),
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        prefill_ms=((first or now) - begun) * 1e3,
        decode_ms=(now - (first or now)) * 1e3,
    )
    yield Chunk(text, finish_reason=reason, stats=stats)


_OURS = {name: name for name in ("deadline", "superseded", "shutdown", "cancelled")}  # of another Midfill


async def _next(events: asyncio.Queue[_Event], deadline: float | None) -> _Event:
    if deadline is None:
        return await events.get()
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(events.get(), max(deadline - time.monotonic(), 0))
    return "deadline"
