"""Where the local service of this user, machine and version is written down, so that all editors share it."""

from __future__ import annotations

import json
import os
import platform
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from lsp_server import __version__


@dataclass(frozen=True)
class Record:
    """The host's process id, the loopback port on which it answers language servers, and the word that lets in."""

    pid: int
    port: int
    token: str
    version: str = __version__


def record_path(folder: Path) -> Path:
    """The record in `folder`. Its name holds the machine, because a home folder may be shared by several, and the
    version, because another one must not be used."""
    return folder / f"local-{platform.node() or 'machine'}-{__version__}.json"


def write(path: Path, record: Record) -> None:
    """Put `record` at `path`, readable by this user alone, all of it or nothing. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path) -> Record | None:
    """The record at `path`; None if there is none, it is not ours alone, or of another version."""
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if os.name == "posix" and (found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077):
                return None
            record = Record(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.version == __version__ else None
