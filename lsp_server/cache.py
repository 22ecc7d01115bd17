"""Completions that are being typed through: answered at once, without debounce and without network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

# Characters on each side of the cursor that have to be the same. More would cost more than the answer may take in a
# large file, and does not change what a completion is worth.
WINDOW = 4096


@dataclass(frozen=True)
class Cached:
    """A completion as the service gave it, or what remains of it.

    `confidence` is 0 to 1, None if it is not known or the user has asked for it all the same. `finished` says that
    the model ended it by itself. `reason` says why nothing of it is shown, not even while it is typed through; `text`
    is then what the model wrote, and may be empty.
    """

    completion_id: str
    text: str
    confidence: float | None = None
    finished: bool = False
    reason: str = ""
    typed: int = 0


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
        self._entries: OrderedDict[tuple[str, int, bytes, int, bytes], _Entry] = OrderedDict()

    def put(self, uri: str, prefix: str, suffix: str, value: Cached, above: int = 0, below: int = 0) -> None:
        """Remember that `value` was the completion between `prefix` and `suffix`; `above` and `below` are the
        characters of the document before the one and after the other."""
        entry = _Entry(above + len(prefix), _digest(prefix[-WINDOW:]), self._clock(), value)
        key = (uri, len(suffix) + below, _digest(suffix[:WINDOW]), entry.prefix_length, entry.prefix_digest)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def get(self, uri: str, prefix: str, suffix: str, above: int = 0, below: int = 0) -> Cached | None:
        """What remains of a completion whose beginning the user has typed (`typed` characters); None if there is none.

        Of several, the one asked for nearest to the cursor. One without text is found only where it was put.
        """
        oldest = self._clock() - self._ttl_s
        here = (uri, len(suffix) + below, _digest(suffix[:WINDOW]))
        best_key, best = None, None
        for key in [k for k in self._entries if k[:3] == here]:
            entry = self._entries[key]
            if entry.stored_at < oldest:
                del self._entries[key]
                continue
            if best is not None and entry.prefix_length <= best.prefix_length:
                continue
            if _continues(entry, prefix, above):
                best_key, best = key, entry
        if best_key is None or best is None:
            return None
        self._entries.move_to_end(best_key)
        typed = above + len(prefix) - best.prefix_length
        return replace(best.value, text=best.value.text[typed:], typed=typed)

    def clear(self) -> None:
        """Forget everything, for instance because the settings changed."""
        self._entries.clear()


def _continues(entry: _Entry, prefix: str, above: int) -> bool:
    place = entry.prefix_length - above
    typed = prefix[max(place, 0) :]
    text = entry.value.text
    if not 0 <= place <= len(prefix) or not text.startswith(typed) or (text == typed and text):
        return False
    return _digest(prefix[max(0, place - WINDOW) : place]) == entry.prefix_digest


def _digest(text: str) -> bytes:
    # surrogatepass: a buffer may hold a lone surrogate, and that must not fail a request.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
