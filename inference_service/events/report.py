"""How completions were received, by language and version: the table of `midfill-serve events report`."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from inference_service.storage.database import Database
from inference_service.storage.schema import completions, events


@dataclass(frozen=True, slots=True)
class Row:
    """Counts of completions, but `accepted_chars`. Each completion counts once in a column."""

    model_version: str
    arm: str
    language: str
    shown: int
    accepted: int
    partially: int
    dismissed: int
    persisted: int
    accepted_chars: int

    @property
    def acceptance(self) -> float:
        """Of those shown, the share that was taken in whole or in part."""
        return (self.accepted + self.partially) / self.shown


def report(database: Database, since: float) -> list[Row]:
    """Of the events since this instant (seconds since 1970), most shown first. Raises DatabaseFault."""

    def had(*names: str) -> sa.ColumnElement[int]:
        return sa.func.max(sa.case((events.c.event.in_(names), 1), else_=0))

    taken = events.c.event.in_(("accepted", "partially_accepted"))
    whole = sa.func.coalesce(events.c.accepted_chars, completions.c.chars, 0)
    same = (events.c.completion_id == completions.c.id) & (events.c.tenant == completions.c.tenant)
    each = (
        sa.select(
            sa.func.coalesce(completions.c.model_version, "unknown").label("model_version"),
            sa.func.coalesce(completions.c.arm, "").label("arm"),
            sa.func.coalesce(completions.c.language, "").label("language"),
            had("accepted").label("accepted"),
            had("partially_accepted").label("partially"),
            had("dismissed").label("dismissed"),
            had("persisted").label("persisted"),
            # Parts are reported as they grow, so the largest is the sum.
            sa.func.max(sa.case((taken, whole), else_=0)).label("chars"),
        )
        .select_from(events.outerjoin(completions, same))
        .where(events.c.created_at >= since)
        .group_by(
            events.c.completion_id,
            events.c.tenant,
            completions.c.model_version,
            completions.c.arm,
            completions.c.language,
        )
        .subquery()
    )
    kind = (each.c.model_version, each.c.arm, each.c.language)
    # An editor that reports what became of a completion has shown it, whether it said so or not.
    shown = sa.func.count()
    query = (
        sa.select(
            *kind,
            shown,
            sa.func.sum(each.c.accepted),
            sa.func.sum(sa.case((each.c.accepted == 0, each.c.partially), else_=0)),
            sa.func.sum(each.c.dismissed),
            sa.func.sum(each.c.persisted),
            sa.func.sum(each.c.chars),
        )
        .group_by(*kind)
        .order_by(shown.desc(), *kind)
    )
    with database.use() as engine, engine.connect() as connection:
        return [Row(*row[:3], *map(int, row[3:])) for row in connection.execute(query)]


def as_table(rows: list[Row]) -> str:
    """For a terminal."""
    head = ("language", "version", "arm", "shown", "accepted", "partly", "dismissed", "kept", "rate", "chars")
    cells = [
        (
            row.language or "-",
            row.model_version[:12],
            row.arm or "-",
            *map(str, (row.shown, row.accepted, row.partially, row.dismissed, row.persisted)),
            f"{row.acceptance:.1%}",
            str(row.accepted_chars),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *cells)
    )
    return "\n".join(line.rstrip() for line in lines)
