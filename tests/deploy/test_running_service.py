"""What asks a running service from outside: the image's health check, and the smoke test after a roll-out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.cluster.processes import service_environment
from tests.deploy.manifests import DEPLOY
from tests.service_process import running_service

pytestmark = pytest.mark.timeout(400)  # starts a service, which compiles first on a new machine
CLEAN = service_environment({})
CHECK = [sys.executable, DEPLOY / "docker" / "healthcheck.py"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_service() as url:
        yield url


def test_the_health_check_is_content_with_a_service_that_works(url: str):
    port = url.rpartition(":")[2]
    # a proxy that is set for the machine is not asked
    ran = subprocess.run(CHECK, env={**CLEAN, "MIDFILL_PORT": port, "http_proxy": "http://127.0.0.1:9"})
    assert ran.returncode == 0


def test_the_health_check_tells_of_a_service_that_is_gone():
    ran = subprocess.run(CHECK, env={**CLEAN, "MIDFILL_PORT": "9"}, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "unhealthy" in ran.stderr


def test_the_smoke_test_passes(url: str):
    ran = subprocess.run([DEPLOY / "ci" / "smoke.sh", url], env=CLEAN, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "smoke.sh: streams"


def test_the_smoke_test_fails_where_there_is_nothing(url: str):
    ran = subprocess.run([DEPLOY / "ci" / "smoke.sh", f"{url}/none"], env=CLEAN, capture_output=True, timeout=120)
    assert ran.returncode != 0
