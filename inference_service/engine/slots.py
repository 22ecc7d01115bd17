"""Prefix reuse: a few KV caches, each remembering the tokens it holds. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Cache(Protocol):
    length: int


C = TypeVar("C", bound=Cache)


class Slot(Generic[C]):
    """One cache; `tokens[:cache.length]` is what it holds."""

    def __init__(self, cache: C) -> None:
        self.cache = cache
        self.tokens: list[int] = []


class Slots(Generic[C]):
    """At most `count` slots, built when first needed.

    A slot is continued when it shares at least half of what it holds; otherwise its document may come back, and a
    new slot is built, or the one that has been idle longest is taken.
    """

    def __init__(self, count: int, new_cache: Callable[[], C]) -> None:
        self._count, self._new_cache = count, new_cache
        self._idle: list[Slot[C]] = []  # longest idle first
        self._built = 0

    def acquire(self, tokens: Sequence[int]) -> Slot[C] | None:
        """A slot whose cache is cut to the part that it shares with `tokens`, or None when all are in use.

        At least one token is left to compute: its logits start the decoding.
        """
        shared = [common_prefix(slot.tokens[: slot.cache.length], tokens[:-1]) for slot in self._idle]
        worth = [i for i, slot in enumerate(self._idle) if shared[i] and shared[i] * 2 >= slot.cache.length]
        if worth:
            best = max(worth, key=lambda i: shared[i])
        elif self._built < self._count:
            self._idle.append(Slot(self._new_cache()))
            self._built += 1
            shared.append(0)
            best = -1
        elif self._idle:
            best = 0
        else:
            return None
        slot = self._idle.pop(best)
        slot.cache.length = shared[best]
        slot.tokens = list(tokens)
        return slot

    def release(self, slot: Slot[C]) -> None:
        del slot.tokens[slot.cache.length :]
        self._idle.append(slot)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading items are equal."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
