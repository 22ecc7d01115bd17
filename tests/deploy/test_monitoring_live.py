"""Rules and dashboards against what a real service exports to a real Prometheus."""

import json
import math
import re
import threading
import time

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.monitoring import build_dashboards
from deploy.monitoring.render import HERE
from tests.deploy.monitored import command, running, wait_for
from tests.deploy.promql import OTHERS, RULES, names
from tests.inference_service.registry.conftest import write_version

pytestmark = pytest.mark.timeout(900)  # they wait for other programs

DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted((HERE / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
QUERIES = [(f"{name}: {panel['title']}", target) for name, panel in PANELS for target in panel["targets"]]


def expression(target) -> str:
    """As Grafana would send it."""
    values = {"$job": "midfill", "$instance": ".*", "$__rate_interval": "1m", "$__range": "5m"}
    return re.sub(r"\$\w+", lambda found: values[found[0]], target["expr"])


def test_the_dashboards_are_generated_and_their_identifiers_unique():
    written = {path.name: path.read_text() for path in (HERE / "dashboards").iterdir()}
    assert written == build_dashboards.documents(), "run python -m deploy.monitoring.build_dashboards"
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS) >= 5
    for board in DASHBOARDS.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_data_sources_of_the_panels_are_provisioned():
    provisioned = yaml.safe_load((HERE / "provisioning" / "datasources.yml").read_text())["datasources"]
    kinds = {(source["type"], source["uid"]) for source in provisioned}
    for _, panel in PANELS:
        source = panel["datasource"]
        # Prometheus is chosen on the page
        assert (source["type"], source["uid"]) in kinds | {("prometheus", "${datasource}")}
    (provider,) = yaml.safe_load((HERE / "provisioning" / "dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"].endswith("dashboards/midfill")


@pytest.fixture(scope="module")
def stack(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("monitored")
    candidate = write_version(folder / "models" / "candidate", tiny_model_dir, seed=2)
    with running(folder, folder / "models") as found:
        held_out = folder / "held_out.jsonl"
        line = {"prompt": "import os\nos.path.jo", "suffix": "", "expected": "in("}
        held_out.write_text(json.dumps(line) + "\n")
        words = (
            "evaluate-live",
            "--endpoint",
            found.endpoint,
            "--held-out",
            str(held_out),
            "--database",
            found.database,
        )
        command(*words, MIDFILL_TOKEN=found.key)
        poor = command(
            *("keys", "create", "--owner", "poor", "--scopes", "complete", "--requests-per-minute", "1"),
            *("--database", found.database),
        )
        poor_key = next(line for line in poor.splitlines() if line.startswith("mf_")).strip()
        shadow = {"version": candidate, "kind": "shadow", "percent": 100}
        found.client.put(f"{found.endpoint}/admin/experiments", json=shadow).raise_for_status()
        ended = threading.Event()

        def load() -> None:
            number = 0
            while not ended.is_set():
                found.type(f"s{number % 3}", "value = [1, 2, 3, 1, 2, 3]\n" * 3 + f"value{number} = [1, 2")
                for key in ("wrong", poor_key):
                    headers = {"Authorization": f"Bearer {key}"}
                    found.client.post(f"{found.endpoint}/v1/completions", json={"prompt": "a"}, headers=headers)
                number += 1
                time.sleep(0.05)

        typist = threading.Thread(target=load)
        typist.start()
        yield found
        ended.set()
        typist.join()


def exported(pages: list[str]) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    return {
        family.name + suffix
        for page in pages
        for family in text_string_to_metric_families(page)
        for suffix in suffixes.get(family.type, ("",))
    }


def test_every_metric_that_rules_and_panels_name_is_exported(stack):
    known = exported(stack.pages()) | OTHERS | {rule["record"] for rule in RULES if "record" in rule}
    named = {rule.get("alert") or rule["record"]: names(rule["expr"]) for rule in RULES}
    named |= {title: names(expression(target)) for title, target in QUERIES if "expr" in target}
    assert len(named) > 80 and set().union(*named.values()) >= {"midfill_wasted_tokens_total", "midfill_upstream_up"}
    unknown = {title: found - known for title, found in named.items() if found - known}
    assert not unknown


def test_every_panel_shows_something(stack):
    def without_data() -> set[str]:
        return {
            title
            for title, target in QUERIES
            if "expr" in target
            and not names(target["expr"].replace("$__rate_interval", "1m").replace("$__range", "5m")) & OTHERS - {"up"}
            and not any(math.isfinite(float(one["value"][1])) for one in stack.query(expression(target)))
        }

    try:
        wait_for("data in every panel", lambda: not without_data(), 240)
    except AssertionError:
        pytest.fail(f"no data: {without_data()}")


def test_the_panels_about_teams_read_the_database(stack):
    queries = [(title, target["rawSql"]) for title, target in QUERIES if "rawSql" in target]
    assert len(queries) == 5

    def rows(sql: str) -> list:
        sql = re.sub(r"\$__unixEpochFilter\((\w+)\)", rf"\1 >= 0 AND \1 <= {time.time()}", sql)
        with psycopg.connect(stack.database) as connection:
            return connection.execute(sql).fetchall()

    for title, sql in queries:
        found = wait_for(title, lambda sql=sql: rows(sql))
        assert any("drill" in map(str, row) for row in found), title


def test_an_alert_fires_on_a_lost_redis_and_clears(stack):
    def told(status: str) -> list:
        return [
            alert
            for message in list(stack.told)
            for alert in message["alerts"]
            if alert["labels"]["alertname"] == "MidfillDependencyDown" and alert["status"] == status
        ]

    assert not told("firing")
    stack.redis.kill()
    try:
        (alert, *_) = wait_for("a notification", lambda: told("firing"), 240)
        assert alert["labels"]["dependency"] == "redis" and alert["labels"]["severity"] == "ticket"
        assert alert["annotations"]["summary"].endswith("does without redis")
        assert alert["annotations"]["runbook_url"] == "deploy/runbooks/dependencies.md#midfilldependencydown"
    finally:
        stack.redis.start()
    wait_for("the end of it", lambda: told("resolved"), 240)
    assert not stack.query('ALERTS{alertname="MidfillDependencyDown",alertstate="firing"}')
