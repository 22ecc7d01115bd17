"""The spool: what was accepted is on this disk before it is in the database.

Every record is appended to a segment file here and acknowledged once it is there; the shipper takes whole segments
to the database and then removes them. So a killed process, a database that is gone and one that is slow are all the
same case, and the usual one. Each process has a folder of its own, locked while it lives; a later process ships what
a dead one has left behind.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from inference_service.settings import SettingsError

_SEGMENT_BYTES = 4 << 20
_SEGMENT_S = 0.5
_WAITING = 20_000  # records that may wait for the disk
_BATCH = 1000
_OURS = re.compile(r"[0-9a-f]{32}")  # what a process calls its folder: whatever else lies there is not to be touched

Done = Callable[[OSError | None], None]


class SpoolFull(OSError):
    """The part of the disk that the spool may use is full, or the disk is too slow."""


class _Entry(NamedTuple):
    line: bytes
    done: Done | None


class Spool:
    """Append from any thread; one thread writes. `most_bytes` bounds what may wait for the database.

    Raises SettingsError when the folder cannot be used.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._root = folder
        self._most_bytes = most_bytes
        self._folder = folder / uuid.uuid4().hex
        self._locks: dict[Path, FileLock] = {}  # of our own folder and of those we took over
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Locked before it exists, or another process could take it over.
            self._locks[self._folder] = _lock(self._folder)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            raise SettingsError(f"cannot use the spool folder {folder}: {error.strerror}; see --spool-dir") from None
        self._queue: queue.Queue[_Entry | None] = queue.Queue(_WAITING)
        self._file: int | None = None  # the segment that is being written
        self._path = self._folder
        self._size = 0
        self._opened_at = 0.0
        self._changed = threading.Condition()
        self._segments: list[Path] = []  # those that are complete, oldest first
        self._bytes = 0
        self.adopt()
        self._thread = threading.Thread(target=self._write_all, name="event-spool", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """On disk and not yet in the database."""
        return self._bytes

    def append(self, line: bytes, done: Done | None = None) -> None:
        """Have `line` written. `done` is called from the writing thread once it is safe on disk, or with why not.

        Raises SpoolFull.
        """
        if self._bytes >= self._most_bytes:
            raise SpoolFull("the event spool has reached its limit")
        try:
            self._queue.put_nowait(_Entry(line, done))
        except queue.Full:
            raise SpoolFull("the disk of the event spool is too slow") from None

    def next_segment(self, timeout_s: float) -> Path | None:
        """The oldest segment that is complete, or None when there is none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._segments, timeout_s)
            return self._segments[0] if self._segments else None

    def remove(self, segment: Path) -> None:
        """The segment is in the database."""
        with self._changed:
            self._bytes -= segment.stat().st_size
            self._segments.remove(segment)
        segment.unlink()
        if segment.parent != self._folder and not any(segment.parent.iterdir()):
            self._delete(segment.parent)

    def adopt(self) -> None:
        """Take over what dead processes have left behind."""
        others = [path for path in self._root.iterdir() if _OURS.fullmatch(path.name) and path not in self._locks]
        for folder in sorted(others):
            try:
                lock = _lock(folder)
            except OSError:
                continue  # its process lives, or another one was faster
            self._locks[folder] = lock
            segments = sorted(folder.glob("*.jsonl"))
            with self._changed:
                self._segments += segments
                self._bytes += sum(path.stat().st_size for path in segments)
                self._changed.notify()
            if not segments:
                self._delete(folder)

    def close(self) -> None:
        """Write what waits and complete the last segment; `next_segment` goes on handing out."""
        self._queue.put(None)
        self._thread.join()

    def release(self) -> None:
        """Let go of the folders: what is left in them is for a later process."""
        for folder in list(self._locks):
            if folder.exists() and any(folder.iterdir()):
                self._locks.pop(folder).release()
            else:
                self._delete(folder)

    def _write_all(self) -> None:
        for batch in self._batches():
            if batch:
                self._write(batch)
            # One complete segment at a time waits to be shipped: while the database is gone they get large, not many.
            age = time.monotonic() - self._opened_at
            if self._size >= _SEGMENT_BYTES or (age >= _SEGMENT_S and not self._segments):
                self._complete()
        self._complete()

    def _batches(self) -> Iterator[list[_Entry]]:
        while True:
            batch: list[_Entry] = []
            entry: _Entry | None = None
            with contextlib.suppress(queue.Empty):
                entry = self._queue.get(timeout=_SEGMENT_S)
                while entry is not None:
                    batch.append(entry)
                    if len(batch) == _BATCH:
                        break
                    entry = self._queue.get_nowait()
                else:
                    yield batch
                    return
            yield batch

    def _write(self, batch: list[_Entry]) -> None:
        problem: OSError | None = None
        data = b"".join(entry.line for entry in batch)
        try:
            file = self._open()
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            if any(entry.done for entry in batch):
                os.fsync(file)
        except OSError as error:
            problem = error
            self._take_back()
        else:
            self._size += len(data)
            with self._changed:
                self._bytes += len(data)
        for entry in batch:
            if entry.done:
                entry.done(problem)

    def _open(self) -> int:
        if self._file is None:
            self._path = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.jsonl"
            self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            self._size, self._opened_at = 0, time.monotonic()
        return self._file

    def _take_back(self) -> None:
        """Half a batch must not stay, or the next one is glued to its end; where that fails, a new file begins."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._complete()

    def _complete(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.close(self._file)
            if not self._size:
                self._path.unlink(missing_ok=True)
        self._file = None
        if self._size:
            with self._changed:
                self._segments.append(self._path)
                self._changed.notify()
        self._size = 0

    def _delete(self, folder: Path) -> None:
        lock = self._locks.pop(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lock(folder: Path) -> FileLock:
    """The lock of a process's folder, beside it. Raises OSError when it is taken."""
    lock = FileLock(folder.with_suffix(".lock"), thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BlockingIOError(f"{folder} is in use") from None
    return lock
