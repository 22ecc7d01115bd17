"""API keys: how one is made, written down, recognised.

A key is `mf_<id>_<secret>`: the id finds the record, the secret is 256 random bits. What is stored is the SHA-256
of salt and secret. A slow hash (scrypt, argon2) protects what people choose, by making each guess dear; 256
random bits cannot be guessed at any price, and a slow hash would let strangers burn our processors instead.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace

from inference_service.guard.principal import Principal

_KEY = re.compile(r"mf_([0-9a-f]{12})_([0-9a-f]{64})")
_ID_BYTES, _SECRET_BYTES, _SALT_BYTES = 6, 32, 16


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a key, as it is stored. `expires_at` in seconds since 1970, None is never."""

    digest: str
    salt: str
    expires_at: float | None = None

    def matches(self, presented: str) -> bool:
        """Whether this is the secret; takes the same time either way."""
        return hmac.compare_digest(_digest(self.salt, presented), self.digest)


@dataclass(frozen=True, slots=True)
class Key:
    """A key, as it is stored. Instants in seconds since 1970. `secrets`: two while a rotation overlaps."""

    principal: Principal
    owner: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    secrets: tuple[Secret, ...] = ()

    @property
    def id(self) -> str:
        """The public part of the key."""
        return self.principal.key_id

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"

    def accepts(self, presented: str, now: float) -> bool:
        """Whether `presented` is a secret of this key at `now`."""
        good = [
            secret.matches(presented) and (secret.expires_at is None or now < secret.expires_at)
            for secret in self.secrets
        ]
        return any(good) and self.state(now) == "active"


def new_id() -> str:
    """A free id, for all practical purposes."""
    return secrets.token_hex(_ID_BYTES)


def new_secret(key_id: str) -> tuple[str, Secret]:
    """(the plain key, which is shown once; what is stored of it)."""
    secret, salt = secrets.token_hex(_SECRET_BYTES), secrets.token_hex(_SALT_BYTES)
    return f"mf_{key_id}_{secret}", Secret(_digest(salt, secret), salt)


def split(presented: str) -> tuple[str, str] | None:
    """(id, secret) of a key that was presented; None when it is not one of ours."""
    match = _KEY.fullmatch(presented)
    return (match[1], match[2]) if match else None


def ending(secret: Secret, at: float) -> Secret:
    """`secret`, valid until `at` at most."""
    return replace(secret, expires_at=at if secret.expires_at is None else min(at, secret.expires_at))


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()
