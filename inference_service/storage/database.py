"""Connections and migrations: SQLite alone, PostgreSQL in a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from inference_service.settings import without_password
from inference_service.storage.location import sqlite_path

MIGRATIONS = Path(__file__).parent / "migrations"
_CONNECT_S = 3
_STATEMENT_MS = 5000


class DatabaseFault(Exception):
    """The database cannot be used; the message is one sentence without a password."""


class NotMigrated(DatabaseFault):
    """The database has no tables, or those of an earlier release."""

    def __init__(self) -> None:
        super().__init__("the database lacks tables of this release; run: midfill-serve database upgrade")


def connect(url: str) -> sa.Engine:
    """A pool for `url` (see `location.checked`). Only SQLite is touched: its file is made, for its owner alone.

    Raises DatabaseFault when the file cannot be made or a driver is missing.
    """
    path = sqlite_path(url)
    if path:
        _make_private(Path(path))
        engine = sa.create_engine(url, connect_args={"timeout": _STATEMENT_MS / 1000, "check_same_thread": False})
        sa.event.listen(engine, "connect", _set_up_sqlite)
        return engine
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_S,
        "options": f"-c statement_timeout={_STATEMENT_MS}",
        "tcp_user_timeout": _STATEMENT_MS,
    }
    try:
        return sa.create_engine(url, pool_size=4, max_overflow=2, pool_pre_ping=True, connect_args=arguments)
    except ImportError:
        raise DatabaseFault('the PostgreSQL driver is missing: pip install "midfill[cluster]"') from None
    except (SQLAlchemyError, ValueError):
        raise DatabaseFault("the database URL cannot be understood") from None


class Database:
    """One database of one process, from any thread; prepared at its first use.

    Raises DatabaseFault when the file cannot be made or a driver is missing; a server that is gone is no fault yet.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._where = without_password(url)  # not SQLAlchemy's own, which leaves a password behind "?"
        self._lock = threading.Lock()
        self._prepared = False

    @contextlib.contextmanager
    def use(self) -> Iterator[sa.Engine]:
        """The pool of connections. What goes wrong inside leaves as DatabaseFault."""
        try:
            with self._lock:
                if not self._prepared:
                    prepare(self._engine)
                    self._prepared = True
            yield self._engine
        except SQLAlchemyError as error:
            raise _fault(self._where, error) from None

    def upgrade(self) -> None:
        """As `upgrade`. Raises DatabaseFault."""
        try:
            upgrade(self._engine)
        except SQLAlchemyError as error:
            raise _fault(self._where, error) from None

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _fault(where: str, error: SQLAlchemyError) -> DatabaseFault:
    """One sentence. Of a statement the driver's own text is left out: it can quote what was to be stored."""
    reason = type(error).__name__
    if isinstance(error, DBAPIError) and error.orig is not None:
        reason = type(error.orig).__name__ if error.statement else str(error.orig).split("\n", 1)[0]
    return DatabaseFault(f"the database {where} cannot be used ({reason})")


def is_current(engine: sa.Engine) -> bool:
    """Whether the tables are those of this release or of a later one. Raises SQLAlchemyError.

    Migrations only add, so that the replicas of an old release go on working while a new one is rolled out.
    """
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return version is not None and version >= _head()


def upgrade(engine: sa.Engine) -> None:
    """Bring the tables to this release; several processes may do it at once. Raises SQLAlchemyError."""
    if is_current(engine):
        return
    # Late: it brings a template engine, and services start on a current database nearly always.
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its import tells of each plugin
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305808869)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def prepare(engine: sa.Engine) -> None:
    """For a service's start: migrate SQLite by itself, of PostgreSQL demand that somebody did.

    Raises NotMigrated, SQLAlchemyError.
    """
    if not is_current(engine):
        if engine.dialect.name != "sqlite":
            raise NotMigrated
        upgrade(engine)


def _head() -> str:
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).split("_")[0]


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise DatabaseFault(f"cannot use the database file {path}: {error.strerror}") from None


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
