"""What the replicas count together, in Redis."""

from __future__ import annotations

from collections.abc import Iterable

from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from inference_service.guard.windows import Windows
from inference_service.settings import SettingsError

_LEASE_S = 30.0
_CONNECTIONS = 64

# A sorted set of the requests that run with a key, by the instant until which they count unless they are renewed.
_ENTER = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], 2 * tonumber(ARGV[3]))
return 1
"""


class SharedTally(Windows):
    """`quotas.Tally` of all replicas. Every method raises one of `faults` when Redis cannot be used.

    After a restart of Redis it is found again by itself. Raises SettingsError for a URL that is none of Redis.
    """

    faults = (RedisError, OSError, TimeoutError)

    def __init__(self, url: str) -> None:
        try:
            # Once more at once: connections from before a restart of Redis are found dead only when used.
            self._redis = Redis.from_url(url, max_connections=_CONNECTIONS, retry=Retry(NoBackoff(), 1))
        except ValueError:
            raise SettingsError("redis must be redis://, rediss:// or unix:// with host, port and database") from None
        storage = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix="midfill:quota",
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # it does take one
        )
        super().__init__(storage)
        self._enter = self._redis.register_script(_ENTER)

    async def enter(self, key: str, request_id: str, most: int) -> bool:
        return bool(await self._enter(keys=[_running(key)], args=[request_id, most, _LEASE_S]))

    async def leave(self, key: str, request_id: str) -> None:
        await self._redis.zrem(_running(key), request_id)

    async def renew(self, running: Iterable[tuple[str, str]]) -> None:
        """Keep counting these (request, key): those of a replica that died are forgotten after half a minute."""
        seconds, microseconds = await self._redis.time()
        until = seconds + microseconds / 1e6 + _LEASE_S
        async with self._redis.pipeline(transaction=False) as pipeline:
            for request_id, key in list(running):
                pipeline.zadd(_running(key), {request_id: until}, xx=True)
                pipeline.expire(_running(key), int(2 * _LEASE_S))
            await pipeline.execute()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _running(key: str) -> str:
    return f"midfill:running:{key}"
