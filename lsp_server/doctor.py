"""What is wrong, in sentences: settings, service, key, model, one round trip, and the last outcomes."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from lsp_server.client import CompletionRequest, ServiceClient
from lsp_server.faults import ServiceFault
from lsp_server.journal import INSTEAD, LOG_MARK, Record
from lsp_server.network import Network
from lsp_server.route import trace
from lsp_server.settings import Settings
from lsp_server.tokens import Tokens

_PROBE = CompletionRequest(
    prefix="def add(a, b):\n    return",
    suffix="\n",
    path="doctor.py",
    language="python",
    mode="line",
    max_tokens=16,
    session="",
)


def describe_settings(settings: Settings, problems: Sequence[str], origins: Mapping[str, str]) -> list[str]:
    """The effective settings that differ from the defaults, where they come from (`origins`, by key), and the values
    that were refused."""
    lines = []
    for f in fields(Settings):
        key, value = f.metadata["key"], getattr(settings, f.name)
        if f.name == "token":
            source = origins.get("token") if value else Tokens(settings).source
            lines.append(f"settings: an API key is {f'taken from {source}' if source else 'not set'}")
        elif f.name == "token_command" and value:
            # Its arguments may say more than they should.
            lines.append(f"settings: midfill.{key} = {value[0]} … ({origins.get(key, 'default')})")
        elif value != f.default or f.name in ("endpoint", "enable"):
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"settings: midfill.{key} = {_without_password(shown)} ({origins.get(key, 'default')})")
    return lines + [f"PROBLEM: {problem}" for problem in problems]


async def examine(client: ServiceClient, network: Network) -> tuple[list[str], bool]:
    """Go the way of a completion, stage by stage; the report, and whether everything is well."""
    lines: list[str] = []
    try:
        lines += await trace(client.base_url, network)
        await client.check_ready()
        lines.append(f"ok: {client.base_url} is reachable and ready")
        models = await client.models()
        if not models:
            lines.append(f"PROBLEM: {client.base_url} has no model loaded")
            return lines, False
        lines.append(f"ok: the key is accepted; models: {', '.join(models)}")
        lines.append(await _round_trip(client))
        if not client.fills_in:
            lines.append("ok: the model was not trained to fill in: it is not told what stands after the cursor")
    except ServiceFault as fault:
        lines.append(f"PROBLEM: {fault}")
        return lines, False
    return lines, True


async def examine_all(clients: Sequence[ServiceClient], network: Network) -> tuple[list[str], bool]:
    """`examine` each service in order; well if one of them is."""
    lines, well = [], False
    for client in clients:
        if len(clients) > 1:
            lines.append(f"service: {client.base_url}")
        said, answers = await examine(client, network)
        lines += said
        well = well or answers
    return lines, well


async def _round_trip(client: ServiceClient) -> str:
    began = time.perf_counter()
    first: list[float] = []

    def receive(piece: str) -> None:
        if piece and not first:
            first.append((time.perf_counter() - began) * 1000)

    completion = await client.complete(_probe(), receive)
    took_ms = (time.perf_counter() - began) * 1000
    if completion is None or not completion.text:
        return f"ok: a completion came back empty after {took_ms:.0f} ms"
    return (
        f"ok: a completion of {len(completion.text)} characters came back after {took_ms:.0f} ms, "
        f"its first text after {first[0]:.0f} ms"
    )


def _without_password(value: object) -> object:
    """A proxy's URL may hold one."""
    return re.sub(r"://[^/@\s]+@", "://…@", value) if isinstance(value, str) else value


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


def outcomes_in_log(log_file: Path) -> list[str]:
    """The last requests of this user's editors, newest last, from the language servers' log."""
    try:
        text = log_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    rows: list[tuple[str, str]] = []
    for line in text.splitlines():
        before, mark, said = line.partition(f": {LOG_MARK}")
        if mark and said.startswith(INSTEAD):
            said = said.removeprefix(INSTEAD)
            name = said.partition(": ")[0]
            last = max((index for index, (_, row) in enumerate(rows) if row.startswith(f"{name}: ")), default=len(rows))
            del rows[last : last + 1]
        if mark:
            rows.append((before.split()[1][:8], said))
    # Time without the date, then what follows the mark.
    return [f"{LOG_MARK}{at} {said}" for at, said in rows[-10:]]


def _probe() -> CompletionRequest:
    return CompletionRequest(**{**vars(_PROBE), "session": f"doctor-{uuid.uuid4().hex}"})
