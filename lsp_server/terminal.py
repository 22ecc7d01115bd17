"""The commands for the terminal: doctor, complete, replay, settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lsprotocol import types

from lsp_server import doctor as examination
from lsp_server import logs
from lsp_server import settings as config
from lsp_server.client import ServiceClient
from lsp_server.completer import Completer
from lsp_server.connection import Connection
from lsp_server.documents import Document, file_of, snapshot
from lsp_server.journal import Journal
from lsp_server.network import Network
from lsp_server.replay import Tally
from lsp_server.replay import replay as fill_holes
from lsp_server.safety import FileRules
from lsp_server.settings import Settings, describe, parse
from lsp_server.status import Status

_LOCAL_START_S = 120.0

# For editors that send no language; enough of them for a terminal command.
_LANGUAGES = {
    ".c": "c", ".cpp": "cpp", ".cs": "csharp", ".go": "go", ".java": "java", ".js": "javascript",
    ".lua": "lua", ".md": "markdown", ".php": "php", ".py": "python", ".rb": "ruby",
    ".rs": "rust", ".sh": "shellscript", ".ts": "typescript",
}  # fmt: skip


def print_settings() -> int:
    """Print every setting as JSON."""
    print(json.dumps(describe(), indent=2))
    return 0


def doctor(endpoint: str | None, assignments: Sequence[str] = ()) -> int:
    """Print the report; exit status 0 if all is well, 1 if not, 2 for a setting that cannot be used."""
    raw = _raw(endpoint, assignments)
    settings = _settings(raw)
    if settings is None:
        return 2
    return asyncio.run(_doctor(settings, config.origins({"the command line": raw}, os.environ)))


async def _doctor(settings: Settings, origins: Mapping[str, str]) -> int:
    print("\n".join(examination.describe_settings(settings, [], origins)))
    connection = Connection(Status(lambda state: None), logs.service_log_file())
    try:
        client = await _connect(connection, settings)
        if client is None:
            print(f"PROBLEM: {connection.unavailable()}")
            return 1
        lines, well = await examination.examine_all(connection.clients, Network.of(settings))
        print("\n".join(lines + examination.outcomes_in_log(logs.log_file())))
        return 0 if well else 1
    finally:
        await connection.close()


def complete(place: str, endpoint: str | None, assignments: Sequence[str] = ()) -> int:
    """Print the completion at FILE:LINE:COL, and nothing else, to stdout; on stderr why there is none.

    Exit status 0 (also when there is nothing to show), 1 if the service failed, 2 for wrong arguments.
    """
    settings = _settings(_raw(endpoint, assignments))
    if settings is None:
        return 2
    try:
        document, position = _open(place)
    except ValueError as error:
        print(f"midfill-lsp: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_complete(document, position, settings))


async def _complete(document: Document, position: types.Position, settings: Settings) -> int:
    status, journal = Status(lambda state: None), Journal(time.time)
    connection = Connection(status, logs.service_log_file())
    completer = Completer(connection, status, journal, time.monotonic, lambda uri: settings)
    try:
        if await _connect(connection, settings) is None:
            print(f"midfill-lsp: {connection.unavailable()}", file=sys.stderr)
            return 1
        request = snapshot(document, position, [str(Path.cwd())])
        refusal = FileRules(time.monotonic).refusal(request, [], settings)
        if refusal:
            print(f"midfill-lsp: {refusal}", file=sys.stderr)
            return 0
        answer = await completer.complete(request, time.monotonic(), by_hand=True, text_now=lambda: document.source)
    finally:
        await connection.close()
    if answer is not None:
        print(answer.text)
        return 0
    print(f"midfill-lsp: {journal.records()[-1].outcome}", file=sys.stderr)
    return 1 if status.message else 0


def replay(names: Sequence[str], holes: int, endpoint: str | None, assignments: Sequence[str] = ()) -> int:
    """Print what would be shown for holes in these files; exit status 0, 1 if the service failed, 2 for wrong
    arguments."""
    settings = _settings(_raw(endpoint, assignments))
    if settings is None:
        return 2
    documents = []
    for name in names:
        try:
            documents.append(_read(name))
        except ValueError as error:
            print(f"midfill-lsp: {error}", file=sys.stderr)
            return 2
    return asyncio.run(_replay(documents, holes, settings))


async def _replay(documents: Sequence[Document], holes: int, settings: Settings) -> int:
    status = Status(lambda state: None)
    connection, rules, tally = Connection(status, logs.service_log_file()), FileRules(time.monotonic), Tally()
    try:
        if await _connect(connection, settings) is None:
            print(f"midfill-lsp: {connection.unavailable()}", file=sys.stderr)
            return 1
        for document in documents:
            if refusal := rules.file_refusal(document.uri, [], settings):
                print(f"midfill-lsp: {file_of(document.uri)}: {refusal}", file=sys.stderr)
                continue
            await fill_holes(connection, replace(settings, debounce_ms=0), document, holes, tally)
    finally:
        await connection.close()
    print("\n".join(tally.lines()))
    return 1 if status.message else 0


async def _connect(connection: Connection, settings: Settings) -> ServiceClient | None:
    await connection.apply(settings)
    await connection.until_settled(_LOCAL_START_S)
    return connection.client


def _raw(endpoint: str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """The settings as an editor would send them; a value that is no JSON is a string."""
    raw: dict[str, Any] = {"endpoint": endpoint} if endpoint is not None else {}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        try:
            raw[key.removeprefix("midfill.")] = json.loads(value)
        except ValueError:
            raw[key.removeprefix("midfill.")] = value
    return raw


def _settings(raw: Mapping[str, Any]) -> Settings | None:
    settings, problems = parse(raw, os.environ)
    for problem in problems:
        print(f"midfill-lsp: {problem.partition('; ')[0]}", file=sys.stderr)
    for warning in config.misspelt(os.environ):
        print(f"midfill-lsp: {warning}", file=sys.stderr)
    return None if problems else settings


def _open(place: str) -> tuple[Document, types.Position]:
    """The file and the position in it. Raises ValueError with a sentence that says what to change."""
    name, line, column = (*place.rsplit(":", 2), "", "")[:3]
    if not (name and line.isdecimal() and column.isdecimal() and int(line) and int(column)):
        raise ValueError(f"{place!r} is not FILE:LINE:COL, with line and column counted from 1")
    document = _read(name)
    source = document.source
    last = document.client_position_at_offset(len(source)).line + 1
    if int(line) > last:
        raise ValueError(f"{name} has {last} lines, there is no line {line}")
    # Columns count characters, LSP counts UTF-16 units.
    start = document.offset_at_position(types.Position(int(line) - 1, 0))
    end = document.offset_at_position(types.Position(int(line) - 1, 2**31 - 1))
    if int(column) - 1 > end - start:
        raise ValueError(f"line {line} of {name} has {end - start} characters, there is no column {column}")
    return document, document.client_position_at_offset(start + int(column) - 1)


def _read(name: str) -> Document:
    """The file. Raises ValueError with a sentence that says what to change."""
    path = Path(name)
    try:
        source = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text") from error
    return Document(path.resolve().as_uri(), source, 0, _LANGUAGES.get(path.suffix, ""))
