"""What is wrong, in sentences: settings, service, key, model, one round trip, and the last outcomes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields

from lsp_server.client import CompletionRequest, ServiceClient, ServiceFault
from lsp_server.journal import Record
from lsp_server.settings import Settings

_PROBE = CompletionRequest(
    prefix="def add(a, b):\n    return",
    suffix="\n",
    path="doctor.py",
    language="python",
    mode="line",
    max_tokens=16,
    session="",
)


def describe_settings(settings: Settings, problems: Sequence[str]) -> list[str]:
    """The effective settings that differ from the defaults, and the values that were refused."""
    lines = []
    for f in fields(Settings):
        value = getattr(settings, f.name)
        if f.name == "token":
            lines.append(f"settings: an API key is {'set' if value else 'not set'}")
        elif value != f.default or f.name in ("endpoint", "enable"):
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"settings: midfill.{f.metadata['key']} = {shown}")
    return lines + [f"PROBLEM: {problem}" for problem in problems]


async def examine(client: ServiceClient) -> tuple[list[str], bool]:
    """Ask the service all that a completion needs; the report, and whether everything is well."""
    lines: list[str] = []
    try:
        if not await client.ready():
            lines.append(f"PROBLEM: {client.base_url} answers but is not ready: loading a model, full or draining")
            return lines, False
        lines.append(f"ok: {client.base_url} is reachable and ready")
        models = await client.models()
        if not models:
            lines.append(f"PROBLEM: {client.base_url} has no model loaded")
            return lines, False
        lines.append(f"ok: the key is accepted; models: {', '.join(models)}")
        began = time.perf_counter()
        completion = await client.complete(_probe())
        took_ms = (time.perf_counter() - began) * 1000
        if completion is None or not completion.text:
            lines.append(f"ok: a completion came back empty after {took_ms:.0f} ms")
        else:
            lines.append(f"ok: a completion of {len(completion.text)} characters came back after {took_ms:.0f} ms")
    except ServiceFault as fault:
        lines.append(f"PROBLEM: {fault}")
        return lines, False
    return lines, True


def describe_filters(counts: Mapping[str, int]) -> list[str]:
    """How often each filter cut something from an answer."""
    said = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    return [f"filters: {said}"] if said else []


def describe_outcomes(records: Sequence[Record]) -> list[str]:
    """The last requests, newest last."""
    if not records:
        return ["requests: none so far"]
    lines = []
    for record in records:
        at = time.strftime("%H:%M:%S", time.localtime(record.at))
        lines.append(f"request: {at} {record.name}: {record.outcome} ({record.took_ms:.0f} ms)")
    return lines


def _probe() -> CompletionRequest:
    return CompletionRequest(**{**vars(_PROBE), "session": f"doctor-{uuid.uuid4().hex}"})
