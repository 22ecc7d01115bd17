"""Where answers are kept: in memory, and in Redis where replicas share them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, TTLCache

from inference_service.logs import log
from inference_service.response_cache.entry import Entry
from inference_service.response_cache.keys import Keys
from inference_service.settings import SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_ENTRY_BYTES, _PIECE_BYTES = 600, 180  # that Python needs for an entry and for each of its tokens, about
_REDIS_TIMEOUT_S = 0.05  # longer, and computing it would be the faster way
_PAUSE_S = 5.0  # without Redis after a fault, so that its time-out is not paid by every request
_PREFIX = "midfill:response:"
_FAMILIES = 4096  # documents, about, whose answers are found in memory
_LENGTHS = 32  # of prompts that are remembered for each; older answers of it are computed again


class ResponseCache:
    """At most `max_bytes` in memory, least recently used first out, nothing older than `ttl_s` seconds.

    With a `redis_url` what memory lacks is looked for there, and every answer is put there too. When Redis does not
    answer it goes on without. Raises SettingsError for an address that is none.
    """

    def __init__(self, max_bytes: int, ttl_s: float, redis_url: str = "") -> None:
        self._memory: TTLCache[str, Entry] = TTLCache(max_bytes, ttl_s, getsizeof=_size)
        self._ttl_s = ttl_s
        self._sharing: set[asyncio.Task[None]] = set()
        # How long the prompts of a family were: which of the many keys of a request are worth a look.
        self._lengths: LRUCache[bytes, dict[int, None]] = LRUCache(_FAMILIES)
        self._redis: Redis | None = None
        self._paused_until = 0.0
        self._counts = dict.fromkeys(("queries", "hits", "typed_hits", "faults"), 0)
        self._faults: tuple[type[Exception], ...] = ()
        if redis_url:
            self._redis, self._faults = _connect(redis_url)

    async def find(self, keys: Keys) -> tuple[int, Entry] | None:
        """The answer to the request, or to what it was the fewest characters before: those characters, the answer."""
        oldest = keys.length - keys.most_typed
        lengths = [length for length in self._lengths.get(keys.family, ()) if oldest <= length <= keys.length]
        for length in sorted(lengths, reverse=True):
            entry = self._memory.get(keys.at(keys.length - length))
            if entry is not None:
                return keys.length - length, entry
        if self._redis is None or not self._usable():
            return None
        try:
            values = await self._redis.mget([_PREFIX + keys.at(typed) for typed in range(keys.most_typed + 1)])
        except self._faults as error:
            self._fault(error)
            return None
        for typed, value in enumerate(values):
            if isinstance(value, bytes):
                with contextlib.suppress(ValueError):  # of another release, or not ours at all
                    return typed, Entry.from_bytes(value)
        return None

    def put(self, keys: Keys, entry: Entry) -> None:
        """Keep the answer to a request; nobody waits for Redis to take it."""
        key = keys.at(0)
        with contextlib.suppress(ValueError):  # larger than the whole cache
            self._memory[key] = entry
            lengths = self._lengths.setdefault(keys.family, {})
            lengths.pop(keys.length, None)
            lengths[keys.length] = None
            if len(lengths) > _LENGTHS:
                del lengths[next(iter(lengths))]
        if self._redis is not None and self._usable():
            task = asyncio.create_task(self._share(self._redis, key, entry))
            self._sharing.add(task)
            task.add_done_callback(self._sharing.discard)

    async def _share(self, redis: Redis, key: str, entry: Entry) -> None:
        try:
            await redis.set(_PREFIX + key, entry.to_bytes(), px=int(self._ttl_s * 1000))
        except self._faults as error:
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


def _size(entry: Entry) -> int:
    return _ENTRY_BYTES + len(entry.text) + _PIECE_BYTES * len(entry.pieces)


def _connect(url: str) -> tuple[Redis, tuple[type[Exception], ...]]:
    """A client, and what it raises when Redis is gone. The library is for clusters, and only there installed."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError:
        raise SettingsError('the Redis client is missing: pip install "midfill[cluster]"') from None
    try:
        client = Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise SettingsError("redis must be redis://, rediss:// or unix:// with host, port and database") from None
    return client, (RedisError, OSError, TimeoutError)
