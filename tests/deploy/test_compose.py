"""The compose files: what every service is denied, and what the services need of each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_service.http_server import _GRACE_S
from inference_service.settings import load
from tests.deploy.manifests import DEPLOY

COMPOSE = DEPLOY / "compose"
FILES = ("compose.yaml", "compose.gpu.yaml", "compose.observability.yaml")
# images without a shell or a way to ask, and what is over when it has run
UNCHECKED = {"database-upgrade", "nginx-exporter", "fluent-bit"}
Service = dict[str, Any]


def content(name: str) -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))


def services(*names: str) -> dict[str, Service]:
    """The services of these files; a later file adds to one of an earlier, as Compose does."""
    found: dict[str, Service] = {}
    for name in names:
        for service, keys in content(name)["services"].items():
            before = found.setdefault(service, {})
            for key, value in keys.items():
                before[key] = {**before.get(key, {}), **value} if isinstance(value, dict) else value
    return found


ALL = services(*FILES)
REPLICAS = [name for name in ALL if name.startswith("inference-")]


def seconds(text: str) -> float:
    """Compose's durations, as they are used here."""
    return float(re.fullmatch(r"(\d+)s", text)[1])


@pytest.mark.parametrize("name", ALL)
def test_a_service_may_do_nothing_that_it_need_not(name: str):
    service = ALL[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "root"
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert "restart" in service
    for volume in service.get("volumes", []):
        assert "docker.sock" not in volume["source"]
        if volume["type"] == "bind" and not volume.get("read_only"):
            assert volume["source"] == "./logs"


@pytest.mark.parametrize("name", ALL)
def test_a_service_is_checked(name: str):
    check = ALL[name]["healthcheck"]
    if name in UNCHECKED:
        assert check == {"disable": True}
    else:
        assert check["test"][0] == "CMD"
        assert seconds(check["timeout"]) <= seconds(check["interval"])


@pytest.mark.parametrize("name", REPLICAS)
def test_a_replica_may_finish_what_it_has_begun(name: str):
    environment = {
        key: re.sub(r"\$\{\w+:-(.*?)\}|\$\{.*?\}", r"\1", value) for key, value in environment_of(name).items()
    }
    settings = load(["--host", "127.0.0.1"], environment)
    assert settings.drain_wait_s + settings.drain_s + _GRACE_S < seconds(ALL[name]["stop_grace_period"])
    assert settings.drain_wait_s > 0


def environment_of(name: str) -> dict[str, str]:
    return ALL[name]["environment"]


def test_replicas_differ_in_nothing_but_their_places():
    first, *others = [ALL[name] for name in REPLICAS]
    assert len(others) == 2
    for other in others:
        assert {key for key in first if first[key] != other[key]} == {"volumes", "networks", "deploy"}
    addresses = {ALL[name]["networks"]["inner"]["ipv4_address"] for name in REPLICAS}
    assert len(addresses) == 3
    # a spool belongs to one process at a time, the models to all
    sources = [{volume["source"] for volume in ALL[name]["volumes"]} for name in REPLICAS]
    assert set.intersection(*sources) == {"models"}
    gpus = [ALL[name]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for name in REPLICAS]
    assert gpus == [["0"], ["1"], ["2"]]


def test_nginx_knows_every_replica():
    listed = environment_of("nginx")["MIDFILL_REPLICAS"].split()
    assert listed == [f"{name}:8000" for name in REPLICAS]
    assert set(ALL["nginx"]["depends_on"]) == set(REPLICAS)


def test_only_nginx_is_reached_from_outside():
    for name, service in ALL.items():
        for port in service.get("ports", []):
            assert name == "nginx" or port.startswith("127.0.0.1:"), name
        if name in {*REPLICAS, "postgresql", "redis", "database-upgrade"}:
            assert "ports" not in service
            assert set(service["networks"]) == {"inner"}
    assert content("compose.yaml")["networks"]["inner"]["internal"] is True
    assert [port for port in ALL["nginx"]["ports"] if not port.startswith("127.0.0.1:")] == ["${HTTPS_PORT:-8443}:8443"]


def test_what_is_mounted_is_there_and_what_is_named_is_declared():
    made_by_up = {"./tls", "./secrets", "./logs"}
    declared: set[str] = set().union(*(content(name).get("volumes", {}) for name in FILES))
    for service in ALL.values():
        for volume in service.get("volumes", []):
            source = volume["source"].replace("${LOG_OUTPUT:-file}", "file")
            if volume["type"] == "volume":
                assert source in declared
            elif source not in made_by_up:
                assert (COMPOSE / source).exists(), source


def test_every_variable_is_in_the_example():
    used = {
        name
        for file in FILES
        for name in re.findall(r"(?<!\$)\$\{([A-Z_]+)", (COMPOSE / file).read_text(encoding="utf-8"))
        if not name.endswith("_IMAGE")
    }
    example = dict(
        line.split("=", 1)
        for line in (COMPOSE / ".env.example").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert used == example.keys() - {"COMPOSE_FILE"}
    assert not any(value for name, value in example.items() if "PASS" in name), "a password that everybody knows"
    assert all((COMPOSE / file).exists() for file in example["COMPOSE_FILE"].split(":"))


def test_secrets_are_not_committed():
    ignored = (COMPOSE / ".gitignore").read_text(encoding="utf-8").split()
    assert {".env", "tls/", "secrets/"} <= set(ignored)


def test_first_start_makes_passwords_and_certificate_and_keeps_them(tmp_path: Path):
    """up.sh with a stand-in for Docker: what it writes, and what it asks Docker for."""
    folder = tmp_path / "compose"
    shutil.copytree(COMPOSE, folder, ignore=shutil.ignore_patterns(".env", "tls", "secrets", "logs"))
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase "$*" in *keys\\ create*) echo mf_key;; esac\n')
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    for _ in range(2):
        ran = subprocess.run([folder / "up.sh"], env=environment, capture_output=True, text=True, timeout=280)
        assert ran.returncode == 0, ran.stderr
        assert "mf_key" not in ran.stdout
    values = dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if "PASSWORD=" in line)
    assert len(values) == len(set(values.values())) == 4
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values.values())
    assert (folder / ".env").stat().st_mode & 0o077 == 0
    assert (folder / "secrets" / "admin-key").stat().st_mode & 0o077 == 0
    assert (folder / "secrets" / "metrics-key").read_text() == "mf_key\n"
    assert "BEGIN CERTIFICATE" in (folder / "tls" / "tls.crt").read_text()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sum("keys create" in line for line in asked) == 2, "the second start makes no further keys"
    assert asked.index("compose run --rm database-upgrade") < asked.index("compose up --detach --wait")
    assert not any(value in line for line in asked for value in values.values()), "a password on a command line"
