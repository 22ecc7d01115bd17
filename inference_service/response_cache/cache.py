"""Where answers are kept: in memory, and in Redis where replicas share them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from cachetools import TTLCache
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from inference_service.logs import log
from inference_service.response_cache.entry import Entry
from inference_service.settings import SettingsError

_OVERHEAD = 300  # bytes that Python needs for an entry besides its value, about
_REDIS_TIMEOUT_S = 0.05  # longer, and computing it would be the faster way
_PAUSE_S = 5.0  # without Redis after a fault, so that its time-out is not paid by every request
_PREFIX = "midfill:response:"


class ResponseCache:
    """At most `max_bytes` in memory, least recently used first out, nothing older than `ttl_s` seconds.

    With a `redis_url` what memory lacks is looked for there, and every answer is put there too. When Redis does not
    answer it goes on without. Raises SettingsError for an address that is none.
    """

    def __init__(self, max_bytes: int, ttl_s: float, redis_url: str = "") -> None:
        self._memory: TTLCache[str, bytes] = TTLCache(max_bytes, ttl_s, getsizeof=lambda value: len(value) + _OVERHEAD)
        self._max_bytes, self._ttl_s = max_bytes, ttl_s
        self._redis: Redis | None = None
        self._paused_until = 0.0
        self._counts = dict.fromkeys(("queries", "hits", "typed_hits", "faults"), 0)
        if redis_url:
            try:
                self._redis = Redis.from_url(
                    redis_url,
                    socket_timeout=_REDIS_TIMEOUT_S,
                    socket_connect_timeout=_REDIS_TIMEOUT_S,
                    retry=Retry(NoBackoff(), 0),
                )
            except ValueError:
                raise SettingsError(
                    "redis must be redis://, rediss:// or unix:// with host, port and database"
                ) from None

    async def find(self, keys: Sequence[str]) -> tuple[int, Entry] | None:
        """The first of `keys` that has an entry, as its position and the entry."""
        for position, key in enumerate(keys):
            data = self._memory.get(key)
            if data is not None:
                return position, Entry.from_bytes(data)
        if self._redis is None or not self._usable():
            return None
        try:
            values = await self._redis.mget([_PREFIX + key for key in keys])
        except (RedisError, OSError, TimeoutError) as error:
            self._fault(error)
            return None
        for position, value in enumerate(values):
            if isinstance(value, bytes):
                with contextlib.suppress(ValueError):  # of another release, or not ours at all
                    return position, Entry.from_bytes(value)
        return None

    async def put(self, key: str, entry: Entry) -> None:
        """Keep an answer."""
        data = entry.to_bytes()
        with contextlib.suppress(ValueError):  # larger than the whole cache
            self._memory[key] = data
        if self._redis is None or not self._usable():
            return
        try:
            await self._redis.set(_PREFIX + key, data, px=int(self._ttl_s * 1000))
        except (RedisError, OSError, TimeoutError) as error:
            self._fault(error)

    def count(self, *, hit: bool, typed: bool) -> None:
        """One repeatable request was looked up."""
        self._counts["queries"] += 1
        self._counts["hits"] += hit
        self._counts["typed_hits"] += typed

    def gauges(self) -> dict[str, float]:
        """Totals and instant values by metric name."""
        totals: dict[str, Any] = {f"response_cache_{name}_total": value for name, value in self._counts.items()}
        return totals | {
            "response_cache_bytes": self._memory.currsize,
            "response_cache_redis_up": float(self._redis is not None and self._usable()),
        }

    async def close(self) -> None:
        """Give the connections back."""
        if self._redis is not None:
            await self._redis.aclose()

    def _usable(self) -> bool:
        return time.monotonic() >= self._paused_until

    def _fault(self, error: Exception) -> None:
        self._counts["faults"] += 1
        self._paused_until = time.monotonic() + _PAUSE_S
        log("response cache goes on without Redis", level=logging.WARNING, reason=type(error).__name__)
