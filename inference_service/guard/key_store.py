"""Keys in the database: made, listed, rotated, revoked. Rows are never deleted, so that ids are never reused."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from inference_service.guard import keys
from inference_service.guard.keys import Key, Secret
from inference_service.guard.principal import GuardError, Principal, Quota, parse_scopes
from inference_service.storage.database import Database
from inference_service.storage.schema import api_key_secrets, api_keys


class KeyStore:
    """Blocking; every method raises DatabaseFault when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, owner: str, tenant: str, scopes: frozenset[str], quota: Quota, expires_at: float | None
    ) -> tuple[Key, str]:
        """(the key, its plain text, which nobody can find out again). Raises GuardError."""
        for name, value in (("owner", owner), ("tenant", tenant)):
            if not value or len(value) > 128 or not value.isprintable():
                raise GuardError(f"{name} must have 1 to 128 printable characters")
        key_id = keys.new_id()
        plain, secret = keys.new_secret(key_id)
        key = Key(Principal(key_id, tenant, scopes, quota), owner, time.time(), expires_at, secrets=(secret,))
        row = {
            "id": key_id,
            "owner": owner,
            "tenant": tenant,
            "scopes": ",".join(sorted(scopes)),
            "created_at": key.created_at,
            "expires_at": expires_at,
            **asdict(quota),
        }
        with self._database.use() as engine, engine.begin() as connection:
            connection.execute(api_keys.insert().values(row))
            connection.execute(api_key_secrets.insert().values(_secret_row(key_id, secret)))
        return key, plain

    def load(self) -> list[Key]:
        """Every key there ever was, oldest first."""
        by_key: defaultdict[str, list[Secret]] = defaultdict(list)
        with self._database.use() as engine, engine.connect() as connection:
            for row in connection.execute(sa.select(api_key_secrets)):
                by_key[row.key_id].append(Secret(row.digest, row.salt, row.expires_at))
            rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at)).all()
        return [_key(row, tuple(by_key[row.id])) for row in rows]

    def rotate(self, key_id: str, overlap_s: float) -> str:
        """A new secret under the same id; the old one is good for another `overlap_s`. Raises GuardError."""
        now = time.time()
        plain, fresh = keys.new_secret(key_id)
        with self._database.use() as engine, engine.begin() as connection:
            self._active(connection, key_id, now)
            rows = connection.execute(sa.select(api_key_secrets).where(api_key_secrets.c.key_id == key_id)).all()
            for row in rows:
                old = keys.ending(Secret(row.digest, row.salt, row.expires_at), now + overlap_s)
                where = (api_key_secrets.c.key_id == key_id) & (api_key_secrets.c.digest == row.digest)
                if old.expires_at is not None and old.expires_at <= now:
                    connection.execute(api_key_secrets.delete().where(where))
                else:
                    connection.execute(api_key_secrets.update().where(where).values(expires_at=old.expires_at))
            connection.execute(api_key_secrets.insert().values(_secret_row(key_id, fresh)))
        return plain

    def revoke(self, key_id: str) -> None:
        """End the key for good. Raises GuardError when it is unknown or has ended already."""
        now = time.time()
        with self._database.use() as engine, engine.begin() as connection:
            self._active(connection, key_id, now)
            connection.execute(api_keys.update().where(api_keys.c.id == key_id).values(revoked_at=now))

    def _active(self, connection: sa.Connection, key_id: str, now: float) -> None:
        row = connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
        if row is None:
            raise GuardError(f"there is no key with the id {key_id!r}; midfill-serve keys list shows them")
        state = _key(row, ()).state(now)
        if state != "active":
            raise GuardError(f"the key {key_id} is {state}; create a new one")


def _key(row: Any, secrets: tuple[Secret, ...]) -> Key:
    quota = Quota(row.requests_per_minute, row.tokens_per_minute, row.concurrency)
    principal = Principal(row.id, row.tenant, parse_scopes(row.scopes.split(",")), quota)
    return Key(principal, row.owner, row.created_at, row.expires_at, row.revoked_at, secrets)


def _secret_row(key_id: str, secret: Secret) -> dict[str, Any]:
    return {"key_id": key_id, **asdict(secret)}
