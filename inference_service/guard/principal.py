"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SCOPES = ("complete", "events", "metrics", "admin")


class GuardError(ValueError):
    """A wish that cannot be fulfilled; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one key; None is unlimited. `concurrency` counts HTTP requests in progress."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """`key_id` is "" for somebody without a key. Caches are shared within a `tenant`, sessions within a key."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    quota: Quota = Quota()


def parse_scopes(names: Iterable[str]) -> frozenset[str]:
    """The scopes of these names. Raises GuardError for an unknown name, or none at all."""
    scopes = frozenset(name.strip() for name in names if name.strip())
    if not scopes or not scopes <= set(SCOPES):
        raise GuardError(f"scopes must be some of {', '.join(SCOPES)}, separated by commas")
    return scopes
