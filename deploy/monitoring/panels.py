"""What a dashboard is made of. `$job` and `$instance` are chosen on the page; a legend may name labels in `{{ }}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OF = 'job="$job",instance=~"$instance"'


@dataclass(frozen=True)
class Sql:
    """A query of the service's PostgreSQL."""

    text: str


@dataclass(frozen=True)
class Panel:
    """`shows` has PromQL by legend. `width` in 24ths of the page, `unit` as Grafana names it, `most` ends the axis."""

    title: str
    shows: Mapping[str, str] | Sql
    unit: str = "short"
    kind: Literal["lines", "number", "table"] = "lines"
    width: int = 8
    text: str = ""
    most: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Page:
    """`span` is how far back it looks at first."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    span: str = "6h"


def rate(name: str, by: str = "", where: str = "") -> str:
    """Events a second over all chosen replicas."""
    labels = f"{OF},{where}" if where else OF
    return f"sum{f' by ({by})' if by else ''} (rate(midfill_{name}{{{labels}}}[$__rate_interval]))"


def now(name: str) -> str:
    """The value of each chosen replica."""
    return f"midfill_{name}{{{OF}}}"


def quantiles(name: str) -> dict[str, str]:
    """Of a histogram, by legend."""
    buckets = f"sum by (le) (rate(midfill_{name}_bucket{{{OF}}}[$__rate_interval]))"
    return {f"p{q}": f"histogram_quantile({q / 100}, {buckets})" for q in (50, 95, 99)}


def mean(name: str) -> str:
    """Of a summary or histogram."""
    return f"{rate(f'{name}_sum')} / {rate(f'{name}_count')}"
