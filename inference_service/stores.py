"""What outlives a request: keys, quotas and events, and the places where they are kept. Opened from the settings.

Heavy libraries are imported only where a setting asks for what they do: a service on loopback without a database
starts as fast as without this module, and writes no file.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from inference_service.dependencies import Dependencies
from inference_service.events.figures import Figures
from inference_service.events.log import EventLog, Journal
from inference_service.guard.key_file import load_keys
from inference_service.guard.key_ring import KeyRing
from inference_service.guard.principal import SCOPES
from inference_service.guard.quotas import Quotas
from inference_service.settings import Settings, SettingsError, is_loopback, without_password
from inference_service.storage import location

if TYPE_CHECKING:
    from inference_service.storage.database import Database


class Stores:
    """Async context manager. Raises SettingsError for a setting that cannot be used.

    A database or Redis that is gone is no such thing: see `dependencies`, which says what is done without.
    """

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self.dependencies = Dependencies(registry)
        url = location.of_service(settings.database)
        self._database = _open(url) if url else None
        digests = load_keys(settings.api_keys_file)
        self.quotas = _quotas(settings, self.dependencies) if self._database else None
        self.keys = _keys(settings, self._database, digests, self.dependencies)
        self.events = _events(settings, self._database, url, self.dependencies, registry)
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Stores:
        for store in (self.keys, self.quotas, self.events):
            if store is not None:
                await self._open.enter_async_context(store)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        if self._database:
            self._database.close()


def _open(url: str) -> Database:
    from inference_service.storage.database import Database, DatabaseFault

    try:
        return Database(url)
    except DatabaseFault as fault:
        raise SettingsError(str(fault)) from None


def _keys(
    settings: Settings, database: Database | None, digests: tuple[str, ...], dependencies: Dependencies
) -> KeyRing:
    load = None
    if database:
        from inference_service.guard.key_store import KeyStore

        load = KeyStore(database).load
    here_only = is_loopback(settings.host)
    # Whoever serves everybody does not mean that everybody may change the model.
    anonymous = frozenset(SCOPES if here_only else set(SCOPES) - {"admin"})
    return KeyRing(load, digests, not (here_only or settings.allow_anonymous), anonymous, dependencies)


def _quotas(settings: Settings, dependencies: Dependencies) -> Quotas:
    from inference_service.guard.windows import LocalTally

    shared = None
    if settings.redis:
        try:
            from inference_service.guard.shared import SharedTally
        except ImportError:
            raise SettingsError('the Redis client is missing: pip install "midfill[cluster]"') from None

        shared = SharedTally(settings.redis)
    return Quotas(LocalTally(), shared, dependencies)


def _events(
    settings: Settings, database: Database | None, url: str, dependencies: Dependencies, registry: CollectorRegistry
) -> EventLog:
    if database is None:
        if settings.store_code:
            raise SettingsError("store_code needs a database: set --database")
        return EventLog(Figures(registry, None), None)
    from inference_service.events.archive import Archive
    from inference_service.events.shipper import Shipper
    from inference_service.events.spool import Spool

    spool = Spool(_spool_folder(settings, url), settings.spool_max_bytes)
    figures = Figures(registry, lambda: float(spool.waiting_bytes))
    shipper = Shipper(spool, Archive(database), figures, dependencies, settings.events_retention_days)
    return EventLog(figures, Journal(spool, shipper, settings.store_code))


def _spool_folder(settings: Settings, url: str) -> Path:
    """Of one database only: what was meant for another must not be shipped to it."""
    if settings.spool_dir:
        return Path(settings.spool_dir)
    if path := location.sqlite_path(url):
        return Path(f"{path}.spool")
    # Without the password, which may change while something waits.
    name = hashlib.sha256(without_password(url).encode()).hexdigest()[:12]
    return location.data_folder() / f"spool-{name}"
