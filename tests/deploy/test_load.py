"""The typing load against a real service, for a short while."""

import csv
import os
import subprocess
import sys

import httpx
import pytest

from deploy.cluster.processes import ROOT
from tests.service_process import running_service


@pytest.mark.full
@pytest.mark.timeout(240)
def test_people_who_type_are_served(tmp_path):
    with running_service() as url:
        words = ["--headless", "--users", "3", "--spawn-rate", "3", "--run-time", "20s", "--seed", "1", "--host", url]
        command = [sys.executable, "-m", "locust", "-f", ROOT / "deploy" / "load" / "locustfile.py", *words]
        environment = {name: value for name, value in os.environ.items() if name != "MIDFILL_TOKEN"}
        done = subprocess.run(
            [*map(str, command), "--csv", str(tmp_path / "run"), "--only-summary"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        page = httpx.get(f"{url}/metrics", trust_env=False, timeout=60).text
    assert done.returncode == 0, done.stdout + done.stderr  # 1 where a request failed
    with (tmp_path / "run_stats.csv").open() as file:
        counts = {row["Name"]: (int(row["Request Count"]), int(row["Failure Count"])) for row in csv.DictReader(file)}
    assert counts["Aggregated"][1] == 0
    for name in ("/v1/completions", "/v1/events", "first token", "whole completion", "cancelled"):
        assert counts[name][0] > 0, counts
    metrics = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    # typing on is found in the cache, and who hangs up is noticed
    assert float(metrics["midfill_prefix_cache_hits_total"]) > 0
    gone = sum(float(value) for name, value in metrics.items() if name.startswith("midfill_aborted_total"))
    assert gone + float(metrics["midfill_superseded_total"]) > 0
