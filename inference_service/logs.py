"""Structured logs: one JSON object a line on stderr, sizes and timings only, never content, never a key."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import MutableMapping
from typing import Any

_logger = logging.getLogger("midfill")
_SCOPE_KEY = "midfill.log"
_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON line.

    Exceptions are reduced to their class and code locations, and foreign messages to their first line: the
    rest (exception texts, the repr of a failed task) can quote the user's code.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage().split("\n", 1)[0][:500],
        }
        if record.name != _logger.name:
            line["logger"] = record.name
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["at"] = [f"{frame.filename}:{frame.lineno}" for frame in frames[-8:]]
        return _encode(line)


class PlainFormatter(JsonFormatter):
    """The same for people: time, level, event, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = json.loads(super().format(record))
        head = f"{line.pop('ts')} {line.pop('level').upper()} {line.pop('event')}"
        return " ".join([head, *(f"{name}={value}" for name, value in line.items())])


def configure(log_format: str = "json") -> None:
    """Send all loggers of the process to stderr, as JSON lines or plain; those of libraries that tell of each request
    only from warnings on (httpx also tells the URL, with its password)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter() if log_format == "plain" else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name in ("uvicorn", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # what no formatter of ours tells need not be found out for each line
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # the report of a line that cannot be written quotes what was to be logged


def log(event: str, /, *, level: int = logging.INFO, exception: BaseException | None = None, **fields: Any) -> None:
    """Write one line; `fields` must be free of user content."""
    if not _logger.isEnabledFor(level):
        return
    problem = (type(exception), exception, exception.__traceback__) if exception else None
    # made here, because logging would look through the stack for the caller's line, which no formatter of ours tells
    record = _logger.makeRecord(_logger.name, level, "", 0, event, (), problem, extra={"fields": fields})
    _logger.handle(record)


def request_fields(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """What will be logged about the request of this ASGI scope; handlers add sizes and timings to it."""
    fields: dict[str, Any] = scope.setdefault(_SCOPE_KEY, {})
    return fields
