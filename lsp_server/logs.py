"""Log files of the language server and of the local service."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import tempfile
import traceback
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def state_directory() -> Path:
    """Where log files go, created if need be (mode 0700); a temporary folder where that is impossible."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Logs"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    directory = base / "midfill"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "lsp.log").touch(mode=0o600)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="midfill-"))
    return directory


def log_file() -> Path:
    """The language server's own log."""
    return state_directory() / "lsp.log"


def service_log_file() -> Path:
    """What the local service writes."""
    return state_directory() / "service.log"


def set_up() -> None:
    """Log to `log_file()`, at most 2 MB."""
    # pygls logs whole messages, which hold code, and tracebacks with them. Our own report is in server.py.
    for noisy in ("pygls", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    handler = logging.handlers.RotatingFileHandler(log_file(), maxBytes=1_000_000, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)


class RotatingBytes:
    """A file for another process' output: bytes in, at most twice `limit` bytes on disk."""

    def __init__(self, path: Path, limit: int = 2_000_000) -> None:
        self._path = path
        self._limit = limit
        self._file = path.open("ab")

    def write(self, data: bytes) -> None:
        """Append; when the file is full it becomes `….1` and a new one begins. Raises OSError."""
        if self._file.tell() + len(data) > self._limit:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def log_internal_error(log: logging.Logger) -> None:
    """Kind and place of the error being handled. Its message may quote code, so that stays out of the log."""
    kind, _, frames = sys.exc_info()
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(frames)]
    log.error("internal error: %s at %s", kind.__name__ if kind else "unknown", " > ".join(places))
