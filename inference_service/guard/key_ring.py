"""The keys that a running service accepts: read again every second, checked in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

from inference_service.dependencies import Dependencies
from inference_service.guard import keys
from inference_service.guard.keys import Key
from inference_service.guard.principal import Principal

REFRESH_S = 1.0
_SLOW_S = 5.0
_FILE_SCOPES = frozenset({"complete", "events", "metrics"})
_NOBODY = "0" * 64


class Refused(Exception):
    """No known key was presented; the message is for the client."""


class KeysUnknown(Exception):
    """The database has not been read yet, so nobody can be told from anybody else."""


class KeyRing:
    """Async context manager: keeps a copy of the key table while it is entered.

    A check never touches the database, so strangers cannot load it. While the database is gone the copy stays in
    use; without a copy nobody is let in. `load` is blocking and returns all keys, None where there is no database.
    `file_digests` are SHA-256 of keys from a file. Without any key `anonymous` are the scopes of everybody, unless
    `always` demands one.
    """

    def __init__(
        self,
        load: Callable[[], Sequence[Key]] | None,
        file_digests: Sequence[str],
        always: bool,
        anonymous: frozenset[str],
        dependencies: Dependencies,
    ) -> None:
        self._load = load
        self._file_digests = file_digests
        self._always = always
        self._anonymous = Principal("", "", anonymous)
        self._dependencies = dependencies
        self._keys: dict[str, Key] | None = None if load else {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeyRing:
        if self._load:
            first = asyncio.Event()
            self._task = asyncio.create_task(self._refresh(self._load, first))
            await first.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def identify(self, presented: str) -> Principal:
        """Who presents this ("" for nothing). Raises Refused, KeysUnknown."""
        if presented and (found := self._in_file(presented)):
            return found
        if self._keys is None:
            raise KeysUnknown
        if not (self._always or self._file_digests or self._keys):
            return self._anonymous
        parts = keys.split(presented)
        key = self._keys.get(parts[0]) if parts else None
        if parts is None or key is None or not key.accepts(parts[1], time.time()):
            raise Refused("a valid API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY")
        return key.principal

    def _in_file(self, presented: str) -> Principal | None:
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        # Every entry is compared, so that the time tells nothing about which one came close.
        if sum(hmac.compare_digest(digest, known) for known in (*self._file_digests, _NOBODY)):
            return Principal(digest[:12], digest[:12], _FILE_SCOPES)
        return None

    async def _refresh(self, load: Callable[[], Sequence[Key]], first: asyncio.Event) -> None:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(load))
            # A database that hangs must not pile up threads: the same attempt is waited for, however long.
            while not (await asyncio.wait({reading}, timeout=_SLOW_S))[0]:
                self._lost("the database does not answer")
                first.set()
            try:
                self._keys = {key.id: key for key in reading.result()}
                self._dependencies.report("keys", None)
            except Exception as error:
                self._lost(str(error))
            first.set()
            await asyncio.sleep(REFRESH_S)

    def _lost(self, problem: str) -> None:
        outcome = "no key is accepted" if self._keys is None else "the keys known last stay in use"
        self._dependencies.report("keys", f"{problem}; {outcome} until it is back")
