"""Writes dashboards/*.json for Grafana from `pages_*.py`; a test compares them.

python -m deploy.monitoring.build_dashboards
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableRefresh,
)

from deploy.monitoring.pages_people import QUALITY, TEAMS
from deploy.monitoring.pages_service import CAPACITY, LATENCY, OVERVIEW
from deploy.monitoring.panels import Page, Panel, Sql

PAGES = (OVERVIEW, LATENCY, CAPACITY, QUALITY, TEAMS)
FOLDER = Path(__file__).parent / "dashboards"
# as provisioned in provisioning/datasources.yml
PROMETHEUS = DataSourceRef("prometheus", "${datasource}")
DATABASE = DataSourceRef("postgres", "midfill-database")
_KINDS: dict[str, Any] = {"lines": timeseries.Panel, "number": stat.Panel, "table": table.Panel}


class _SqlQuery(Dataquery):
    """A query of Grafana's PostgreSQL data source, which the SDK does not know. Its own builder, too."""

    def __init__(self, sql: str, as_series: bool) -> None:
        self._sql, self._format = sql, "time_series" if as_series else "table"

    def build(self) -> _SqlQuery:
        return self

    def to_json(self) -> dict[str, object]:
        source = DATABASE.to_json()
        return {"datasource": source, "rawQuery": True, "rawSql": self._sql, "format": self._format, "refId": "A"}


def documents() -> dict[str, str]:
    """The text of each file by its name."""
    return {f"{page.uid}.json": _document(page) for page in PAGES}


def _document(page: Page) -> str:
    made = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.text)
        .tags(["midfill"])
        .time(f"now-{page.span}", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_labels("job", "label_values(midfill_model_info, job)"))
        .with_variable(
            _labels("instance", 'label_values(midfill_model_info{job="$job"}, instance)').multi(True).include_all(True)
        )
        .link(dashboard.DashboardLink("Midfill").type("dashboards").tags(["midfill"]).as_dropdown(True))
    )
    for row in page.rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(_panel(panel))
    plain = _without_nulls(json.loads(json.dumps(made.build(), cls=JSONEncoder)))
    for number, panel in enumerate(plain["panels"], 1):
        panel["id"] = number
    return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def _without_nulls(value: Any) -> Any:
    """Grafana has defaults for what is missing, and none for null."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _labels(name: str, query: str) -> Any:
    variable = dashboard.QueryVariable(name).query(query).datasource(PROMETHEUS)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _panel(panel: Panel) -> Any:
    made = _KINDS[panel.kind]().title(panel.title).description(panel.text).unit(panel.unit)
    if panel.kind == "number":
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    made = made.height(4 if panel.kind == "number" else 8).span(panel.width)
    if panel.kind != "table" and panel.most is not None:
        made = made.min(0).max(panel.most)
    elif panel.kind == "lines":
        made = made.min(0)
    if isinstance(panel.shows, Sql):
        return made.datasource(DATABASE).with_target(_SqlQuery(panel.shows.text, panel.kind == "lines"))
    made = made.datasource(PROMETHEUS)
    for number, (legend, expression) in enumerate(panel.shows.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        query = query.datasource(PROMETHEUS)
        if panel.kind == "table":
            query = query.format("table")
        made = made.with_target(query.range() if panel.kind == "lines" else query.instant())
    return made


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
