"""Completions that are being typed through: answered at once, without debounce and without network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cached:
    """A completion as it was first shown, or what remains of it."""

    completion_id: str
    text: str


@dataclass(frozen=True)
class _Entry:
    prefix_length: int
    prefix_digest: bytes
    stored_at: float
    value: Cached


class TypeThroughCache:
    """Least-recently-used completions by document and surroundings.

    Holds digests of the surroundings, not their text: 250 copies of a large file would not fit into a helper
    process. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float], capacity: int = 250, ttl_s: float = 300.0) -> None:
        self._clock = clock
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._entries: OrderedDict[tuple[str, bytes, int, bytes], _Entry] = OrderedDict()

    def put(self, uri: str, prefix: str, suffix: str, value: Cached) -> None:
        """Remember that `value` was the completion between `prefix` and `suffix`."""
        entry = _Entry(len(prefix), _digest(prefix), self._clock(), value)
        key = (uri, _digest(suffix), entry.prefix_length, entry.prefix_digest)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def get(self, uri: str, prefix: str, suffix: str) -> Cached | None:
        """What remains of a completion whose beginning the user has typed; None if there is none.

        Of several, the one asked for nearest to the cursor.
        """
        oldest = self._clock() - self._ttl_s
        suffix_digest = _digest(suffix)
        best_key, best = None, None
        for key in [k for k in self._entries if k[0] == uri and k[1] == suffix_digest]:
            entry = self._entries[key]
            if entry.stored_at < oldest:
                del self._entries[key]
                continue
            if best is not None and entry.prefix_length <= best.prefix_length:
                continue
            if self._remainder(entry, prefix):
                best_key, best = key, entry
        if best_key is None or best is None:
            return None
        self._entries.move_to_end(best_key)
        return Cached(best.value.completion_id, self._remainder(best, prefix))

    def clear(self) -> None:
        """Forget everything, for instance because the settings changed."""
        self._entries.clear()

    @staticmethod
    def _remainder(entry: _Entry, prefix: str) -> str:
        typed = prefix[entry.prefix_length :]
        if len(prefix) < entry.prefix_length or not entry.value.text.startswith(typed):
            return ""
        if _digest(prefix[: entry.prefix_length]) != entry.prefix_digest:
            return ""
        return entry.value.text[len(typed) :]


def _digest(text: str) -> bytes:
    # surrogatepass: a buffer may hold a lone surrogate, and that must not fail a request.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
