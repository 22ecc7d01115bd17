"""The local service that editors with a home of their own have started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from lsp_server import local_record
from tests.e2e.waiting import wait_for


def local_service(home: Path) -> local_record.Record | None:
    """The record of the one whose state is under `home`; None if none runs."""
    return local_record.read(local_record.record_path(home / "state" / "midfill"))


def end_local_service(home: Path) -> None:
    """Ends it now, instead of ten minutes after the last editor; nothing happens if none runs."""
    record = local_service(home)
    if record is not None:
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        wait_for("the local service to end", lambda: local_service(home) is None)
