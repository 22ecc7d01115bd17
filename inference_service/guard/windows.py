"""Counting in windows of a minute, with the `limits` library, and in this process's memory."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter

_WINDOW_S = 60


class Windows:
    """Fixed windows of a minute that begin with the first use: what is refused now is granted at a known time.

    `take` and `add` as in `quotas.Tally`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._limiter = FixedWindowRateLimiter(storage)

    async def take(self, limit: str, key: str, most: int, amount: int) -> tuple[bool, float]:
        item = _item(most)
        granted = await self._limiter.hit(item, limit, key, cost=amount)
        ends = float(await self._storage.get_expiry(item.key_for(limit, key)))
        if granted:
            return True, ends
        await self.add(limit, key, most, -amount)
        if ends - time.time() > _WINDOW_S + 1:
            # The clock was set back, and the window would last as much longer.
            await self._limiter.clear(item, limit, key)
            return await self.take(limit, key, most, amount)
        return False, ends

    async def add(self, limit: str, key: str, most: int, amount: int) -> None:
        await self._storage.incr(_item(most).key_for(limit, key), _WINDOW_S, amount=amount)


class LocalTally(Windows):
    """`quotas.Tally` of this process alone."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())
        self._running: defaultdict[str, set[str]] = defaultdict(set)

    async def enter(self, key: str, request_id: str, most: int) -> bool:
        if len(self._running[key]) >= most:
            return False
        self._running[key].add(request_id)
        return True

    async def leave(self, key: str, request_id: str) -> None:
        self._running[key].discard(request_id)
        if not self._running[key]:
            del self._running[key]


@lru_cache(maxsize=1024)
def _item(most: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(most)
