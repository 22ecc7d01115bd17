"""Prometheus's and Alertmanager's own checkers on what ships, and a unit test of every alert in all three cases."""

import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.monitoring.render import HERE, render
from tests.programs import program

RULES = sorted((HERE / "rules").glob("*.yml"))
UNIT_TESTS = sorted((HERE / "tests").glob("*.test.yml"))
ALERTS = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid():
    run(program("promtool", "prometheus"), "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name.partition(".")[0])
def test_the_unit_tests_of_the_rules_pass(path):
    run(program("promtool", "prometheus"), "test", "rules", path)


def test_every_alert_is_tested_firing_quiet_and_with_nothing_exported():
    fires, quiet, absent = set(), set(), set()
    for path in UNIT_TESTS:
        for group in yaml.safe_load(path.read_text())["tests"]:
            for case in group["alert_rule_test"]:
                if not group["input_series"]:
                    absent.add(case["alertname"])
                else:
                    (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    always = {"MidfillWatchdog"}
    assert fires == set(ALERTS)
    assert quiet == absent == set(ALERTS) - always


def test_the_shipped_and_the_rendered_configuration_are_valid(tmp_path):
    promtool = program("promtool", "prometheus")
    key = tmp_path / "metrics-key"
    key.write_text("mf_0_0")
    (tmp_path / "shipped" / "secrets").mkdir(parents=True)
    (tmp_path / "shipped" / "secrets" / "metrics-key").write_text("mf_0_0")
    (tmp_path / "shipped" / "rules").symlink_to(HERE / "rules")
    shipped = tmp_path / "shipped" / "prometheus.yml"
    shipped.write_text((HERE / "prometheus.yml").read_text())
    assert f"{len(RULES)} rule files found" in run(promtool, "check", "config", shipped)

    targets = ["127.0.0.1:8001", "127.0.0.1:8002"]
    made = render(
        tmp_path / "made", targets, alertmanager="127.0.0.1:9093", key_file=key, runbooks="https://wiki.example/"
    )
    assert f"{len(RULES)} rule files found" in run(promtool, "check", "config", made)
    config = yaml.safe_load(made.read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": targets}]
    assert "https://wiki.example/availability.md#midfillabsent" in (made.parent / "rules" / "slo.yml").read_text()


def test_alerts_go_to_whom_their_severity_names():
    amtool = program("amtool", "prometheus-alertmanager")
    config = HERE / "alertmanager.yml"
    run(amtool, "check-config", config)
    severities = {rule["labels"]["severity"] for rule in ALERTS.values()}
    assert severities == {"page", "ticket", "heartbeat"}
    for severity in severities:
        found = run(amtool, "config", "routes", "test", "--config.file", config, f"severity={severity}")
        assert found.strip() == severity
