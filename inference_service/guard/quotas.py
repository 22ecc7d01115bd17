"""Quotas of a key: requests and tokens a minute, requests at once. In memory alone, in Redis for all replicas."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from inference_service.dependencies import Dependencies
from inference_service.guard.principal import Principal, Quota

if TYPE_CHECKING:
    from inference_service.guard.shared import SharedTally

_PROBE_S = 1.0
_ANSWER_S = 0.25  # the most that a request waits for Redis before it goes on without
_LOST = "Redis does not answer; each replica keeps the quotas alone until it is back"


class QuotaExceeded(Exception):
    """The message names the limit; after `retry_after_s` whole seconds its window has ended."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Tally(Protocol):
    """Who counts: this process, or Redis for all."""

    async def take(self, limit: str, key: str, most: int, amount: int) -> tuple[bool, float]:
        """(whether `amount` was left of `most`, and is now taken; when the window ends, as time.time() tells it)."""
        ...

    async def add(self, limit: str, key: str, most: int, amount: int) -> None:
        """Correct the count of the present window."""
        ...

    async def enter(self, key: str, request_id: str, most: int) -> bool:
        """Count one more request at once; False when there are `most` already."""
        ...

    async def leave(self, key: str, request_id: str) -> None:
        """The request is over."""
        ...


class _Taken(NamedTuple):
    limit: str
    most: int
    amount: int
    ends: float


@dataclass(slots=True)
class Reservation:
    """What one request has taken from the quotas of its key, and in which tally."""

    tally: Tally
    key: str
    id: str
    taken: list[_Taken] = field(default_factory=list)


class Quotas:
    """Async context manager. `shared` is the tally in Redis, None to count here alone.

    Redis is leaned on, not depended on: when it does not answer within a quarter of a second, the limits are kept
    by this process until it does.
    """

    def __init__(self, local: Tally, shared: SharedTally | None, dependencies: Dependencies) -> None:
        self._local = local
        self._shared = shared
        self._shared_up = False
        self._dependencies = dependencies
        self._leases: dict[str, str] = {}  # request → key, of those that Redis counts
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Quotas:
        if self._shared:
            await self._probe(self._shared)
            self._task = asyncio.create_task(self._keep_in_touch(self._shared))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._shared:
            await self._shared.close()

    async def reserve(self, principal: Principal, request_id: str, tokens: int) -> Reservation | None:
        """Take one request and `tokens` (an estimate); None for a key without quotas.

        Raises QuotaExceeded, and then nothing is taken.
        """
        key, quota = principal.key_id, principal.quota
        if quota == Quota():
            return None
        # Counted here even when Redis counts too, so that the number is right when Redis goes.
        if quota.concurrency is not None and not await self._local.enter(key, request_id, quota.concurrency):
            raise _too_many_at_once(quota.concurrency)
        try:
            if self._shared and self._shared_up:
                try:
                    async with asyncio.timeout(_ANSWER_S):
                        return await self._reserve(Reservation(self._shared, key, request_id), quota, tokens)
                except self._shared.faults:
                    self._lost()
            return await self._reserve(Reservation(self._local, key, request_id), quota, tokens)
        except BaseException:
            await self._local.leave(key, request_id)
            raise

    async def settle(self, reservation: Reservation, used: int | None) -> None:
        """The request is over and used so many tokens; None gives everything back, for one that was not served."""
        await self._local.leave(reservation.key, reservation.id)
        leased = self._leases.pop(reservation.id, None) is not None
        if self._shared is None or reservation.tally is not self._shared:
            await self._undo(reservation, used, leased)
        elif self._shared_up:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await self._undo(reservation, used, leased)
            except self._shared.faults:
                self._lost()

    async def _reserve(self, reservation: Reservation, quota: Quota, tokens: int) -> Reservation:
        try:
            if quota.concurrency is not None and reservation.tally is not self._local:
                self._leases[reservation.id] = reservation.key
                if not await reservation.tally.enter(reservation.key, reservation.id, quota.concurrency):
                    raise _too_many_at_once(quota.concurrency)
            if quota.requests_per_minute is not None:
                await self._take(reservation, "requests", quota.requests_per_minute, 1)
            if quota.tokens_per_minute is not None:
                # An estimate above the whole window could never be granted.
                most = quota.tokens_per_minute
                await self._take(reservation, "tokens", most, min(tokens, most))
        except QuotaExceeded:
            await self._undo(reservation, None, self._leases.pop(reservation.id, None) is not None)
            raise
        except BaseException:
            self._leases.pop(reservation.id, None)
            raise
        return reservation

    async def _take(self, reservation: Reservation, limit: str, most: int, amount: int) -> None:
        granted, ends = await reservation.tally.take(limit, reservation.key, most, amount)
        if not granted:
            seconds = max(0, int(ends - time.time())) + 1
            raise QuotaExceeded(f"this key has used up its {most} {limit} a minute", seconds)
        reservation.taken.append(_Taken(limit, most, amount, ends))

    async def _undo(self, reservation: Reservation, used: int | None, leased: bool) -> None:
        """Free the place, and correct the windows that have not ended; those took their reservations with them."""
        if leased:
            await reservation.tally.leave(reservation.key, reservation.id)
        for limit, most, amount, ends in reservation.taken:
            correction = -amount if used is None else used - amount if limit == "tokens" else 0
            if correction and time.time() < ends:
                await reservation.tally.add(limit, reservation.key, most, correction)

    async def _keep_in_touch(self, shared: SharedTally) -> None:
        while True:
            await asyncio.sleep(_PROBE_S)
            await self._probe(shared)

    async def _probe(self, shared: SharedTally) -> None:
        """Also renews the leases of what runs here: those of a replica that died run out."""
        try:
            async with asyncio.timeout(_PROBE_S):
                await shared.renew(self._leases.items())
        except shared.faults:
            self._lost()
        else:
            self._shared_up = True
            self._dependencies.report("redis", None)

    def _lost(self) -> None:
        self._shared_up = False
        self._dependencies.report("redis", _LOST)


def _too_many_at_once(most: int) -> QuotaExceeded:
    return QuotaExceeded(f"this key has {most} requests at once running already", 1)
