"""Where versions other than the first come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from inference_service.backends.base import Backend
from inference_service.registry.golden import self_test
from inference_service.registry.store import ModelStore, StoredModel


class Source(Protocol):
    """Versions that can be brought up, and the memory of what the operator decided."""

    async def list(self) -> list[StoredModel]:
        """What there is. Raises RolloutFault."""
        ...

    async def bring_up(self, version: str) -> Backend:
        """A started, tested backend. Raises UnknownVersion, ModelRefused, RolloutFault, or what loading raises."""
        ...

    async def read_state(self) -> dict[str, Any]:
        """The last state that was written; empty before that. Raises RolloutFault."""
        ...

    async def write_state(self, state: dict[str, Any]) -> None:
        """Keep it. Raises RolloutFault."""
        ...


class StoreSource:
    """Versions of a ModelStore; `make` gives the backend of a local directory."""

    def __init__(self, store: ModelStore, make: Callable[[Path], Backend]) -> None:
        self._store, self._make = store, make

    async def list(self) -> list[StoredModel]:
        return await asyncio.to_thread(self._store.list)

    async def bring_up(self, version: str) -> Backend:
        path = await asyncio.to_thread(self._store.fetch, version)
        backend = self._make(path)
        try:
            await backend.start()
            await self_test(backend, path)
        except BaseException:
            await backend.stop()
            raise
        return backend

    async def read_state(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._store.read_state)

    async def write_state(self, state: dict[str, Any]) -> None:
        await asyncio.to_thread(self._store.write_state, state)
