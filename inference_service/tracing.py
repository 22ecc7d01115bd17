"""OpenTelemetry traces, from the HTTP request to the engine's steps: sizes and times, never content.

Needs the extra `otel`. Headers for the collector and sampling come from OpenTelemetry's own environment variables
(`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

from inference_service.engine.request import Stats
from inference_service.settings import SettingsError

_SPAN = "midfill.span"
Scope = MutableMapping[str, Any]


class Tracing(Protocol):
    """What the API tells about a request. The calls are cheap and never fail."""

    def begin(self, scope: Scope, request_id: str) -> None:
        """A request has come; a `traceparent` header of it is continued."""
        ...

    def completion(self, scope: Scope, stats: Stats, finish_reason: str) -> None:
        """One completion of the request has ended just now."""
        ...

    def end(self, scope: Scope, route: str, status: int, fields: Mapping[str, Any]) -> None:
        """The request is answered; of `fields` the numbers are told."""
        ...

    def exemplar(self, scope: Scope) -> dict[str, str] | None:
        """What connects a measurement with the trace of its request; None without a sampled trace."""
        ...

    def close(self) -> None:
        """Send what is still here."""
        ...


class NoTracing:
    """Tells nothing."""

    def begin(self, scope: Scope, request_id: str) -> None:
        pass

    def completion(self, scope: Scope, stats: Stats, finish_reason: str) -> None:
        pass

    def end(self, scope: Scope, route: str, status: int, fields: Mapping[str, Any]) -> None:
        pass

    def exemplar(self, scope: Scope) -> dict[str, str] | None:
        return None

    def close(self) -> None:
        pass


def tracing(otlp_endpoint: str) -> Tracing:
    """Traces to the OTLP/HTTP collector at a base URL; none for "". Raises SettingsError without the extra."""
    if not otlp_endpoint:
        return NoTracing()
    try:
        return OtlpTracing(otlp_endpoint)
    except ImportError:
        raise SettingsError("otlp_endpoint needs the extra otel: pip install 'midfill[otel]'") from None


class OtlpTracing:
    """Spans, sent in batches by a thread of the SDK; a collector that is gone costs nothing but the spans."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from inference_service.version import VERSION

        resource = Resource.create({"service.name": "midfill", "service.version": VERSION})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("midfill")
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def begin(self, scope: Scope, request_id: str) -> None:
        names = (b"traceparent", b"tracestate")
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}
        scope[_SPAN] = self._tracer.start_span(
            scope["method"],
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "midfill.request_id": request_id},
        )

    def completion(self, scope: Scope, stats: Stats, finish_reason: str) -> None:
        parent = self._trace.set_span_in_context(scope[_SPAN])
        end = time.time_ns()
        attributes: dict[str, str | int] = {
            "midfill.finish_reason": finish_reason,
            "midfill.prompt_tokens": stats.prompt_tokens,
            "midfill.cached_tokens": stats.cached_tokens,
            "midfill.completion_tokens": stats.completion_tokens,
        }
        # the engine counts its steps back from the end
        for name, milliseconds in (
            ("decode", stats.decode_ms),
            ("prefill", stats.prefill_ms),
            ("queue", stats.queue_ms),
        ):
            start = end - int(milliseconds * 1e6)
            self._tracer.start_span(name, parent, attributes=attributes, start_time=start).end(end)
            end = start

    def end(self, scope: Scope, route: str, status: int, fields: Mapping[str, Any]) -> None:
        span = scope[_SPAN]
        span.update_name(f"{scope['method']} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        span.set_attributes(
            {f"midfill.{name}": value for name, value in fields.items() if isinstance(value, int | float)}
        )
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def exemplar(self, scope: Scope) -> dict[str, str] | None:
        context = scope[_SPAN].get_span_context()
        if not context.trace_flags.sampled:
            return None
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def close(self) -> None:
        self._provider.force_flush(5000)
        self._provider.shutdown()
