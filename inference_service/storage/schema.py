"""The tables. Instants are seconds since 1970 (UTC), so that they mean the same in SQLite and PostgreSQL.

A change here needs a new file in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("scopes", String(128), nullable=False),  # separated by commas
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("requests_per_minute", BigInteger),  # null: unlimited, as in the next two
    Column("tokens_per_minute", BigInteger),
    Column("concurrency", Integer),
)

# Beside the key, because a rotated key has two for a while.
api_key_secrets = Table(
    "api_key_secrets",
    metadata,
    Column("key_id", String(16), ForeignKey("api_keys.id"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("salt", String(32), nullable=False),
    Column("expires_at", Double),
)

completions = Table(
    "completions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("model_version", String(128), nullable=False),
    Column("arm", String(128), nullable=False),  # of an experiment, "" for none
    Column("language", String(64), nullable=False),
    Column("finish_reason", String(16), nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("chars", Integer, nullable=False),
)

# Filled only with `store_code`: a table of its own, so that access can be granted to the rest alone.
completion_texts = Table(
    "completion_texts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("tenant", String(128), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("suffix", Text),
    Column("text", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("completion_id", String(128), nullable=False, index=True),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("event", String(32), nullable=False),
    Column("accepted_chars", Integer),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("model_version", String(128), nullable=False),
    Column("lines", Integer, nullable=False),
    Column("exact_matches", Integer, nullable=False),
    Column("floor", Double, nullable=False),
)
