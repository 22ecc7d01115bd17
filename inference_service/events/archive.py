"""Records in the database: stored once however often they come, found again, pruned."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from inference_service.events.figures import Evaluation, Made
from inference_service.storage.database import Database
from inference_service.storage.schema import completion_texts, completions, evaluations, events, metadata

_KEPT_FOR_A_WHILE = (events, completion_texts, completions)
_AT_ONCE = 500
_LOOKED_UP_AT_ONCE = 500
_PRUNED_AT_ONCE = 5000


class Archive:
    """Blocking; every method raises DatabaseFault when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> int:
        """Insert (table, row) pairs; a row that is there already is left alone. Returns how many were unusable."""
        by_table: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for table, row in rows:
            by_table[table].append(row)
        with self._database.use() as engine:
            return sum(
                self._insert(engine, metadata.tables[table], found[start : start + _AT_ONCE])
                for table, found in by_table.items()
                for start in range(0, len(found), _AT_ONCE)
            )

    def find(self, ids: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Made]:
        """What is known of completions, by (id, tenant)."""
        found: dict[tuple[str, str], Made] = {}
        with self._database.use() as engine, engine.connect() as connection:
            for start in range(0, len(ids), _LOOKED_UP_AT_ONCE):
                some = [completion_id for completion_id, _ in ids[start : start + _LOOKED_UP_AT_ONCE]]
                for row in connection.execute(sa.select(completions).where(completions.c.id.in_(some))):
                    found[row.id, row.tenant] = Made(row.model_version, row.language, row.chars)
        return found

    def prune(self, before: float) -> int:
        """Delete what is older than this instant (seconds since 1970); returns the number of rows."""
        deleted = 0
        with self._database.use() as engine:
            for table in _KEPT_FOR_A_WHILE:
                old = sa.select(table.c.id).where(table.c.created_at < before).limit(_PRUNED_AT_ONCE)
                while True:
                    with engine.begin() as connection:
                        count = connection.execute(table.delete().where(table.c.id.in_(old))).rowcount
                    deleted += count
                    if count < _PRUNED_AT_ONCE:
                        break
        return deleted

    def evaluated(self, model_version: str, lines: int, exact_matches: int, floor: float) -> None:
        """Keep the outcome of an evaluation; every service that uses the database shows the newest one."""
        row = {
            "id": uuid.uuid4().hex,
            "created_at": time.time(),
            "model_version": model_version,
            "lines": lines,
            "exact_matches": exact_matches,
            "floor": floor,
        }
        with self._database.use() as engine, engine.begin() as connection:
            connection.execute(evaluations.insert().values(row))

    def latest_evaluations(self) -> list[Evaluation]:
        """The newest one of each version."""
        newest = sa.select(evaluations.c.model_version, sa.func.max(evaluations.c.created_at).label("at"))
        last = newest.group_by(evaluations.c.model_version).subquery()
        same = (evaluations.c.model_version == last.c.model_version) & (evaluations.c.created_at == last.c.at)
        with self._database.use() as engine, engine.connect() as connection:
            return [
                Evaluation(row.model_version, row.exact_matches / row.lines, row.floor, row.created_at)
                for row in connection.execute(sa.select(evaluations).join(last, same))
            ]

    def _insert(self, engine: sa.Engine, table: sa.Table, rows: list[dict[str, Any]]) -> int:
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(table).on_conflict_do_nothing()
        try:
            with engine.begin() as connection:
                connection.execute(statement, rows)
        except (DataError, IntegrityError):
            # One bad row must neither take its neighbours with it nor be tried for ever.
            return 1 if len(rows) == 1 else sum(self._insert(engine, table, [row]) for row in rows)
        return 0
