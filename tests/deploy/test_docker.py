"""The Dockerfile: what a build leaves out, installs and runs as. A build itself needs an engine; see docs/docker.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.deploy.manifests import DEPLOY

ROOT = DEPLOY.parent
TEXT = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(extras: str, tmp_path: Path) -> list[str]:
    """What the script prints beside a copy of pyproject.toml, as in the build."""
    script = tmp_path / "requirements.py"
    script.write_bytes((DEPLOY / "docker" / "requirements.py").read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    ran = subprocess.run([sys.executable, script, extras], capture_output=True, text=True, timeout=280, check=True)
    return ran.stdout.splitlines()


def test_every_target_runs_as_a_number_that_is_not_root():
    for target in ("cpu", "cuda"):
        [user] = re.findall(r"^USER (.*)$", STAGES[target], re.MULTILINE)
        assert user == "10001:10001"  # Kubernetes's runAsNonRoot understands numbers only
        assert "\nHEALTHCHECK " in STAGES[target]
        assert '\nENTRYPOINT ["midfill-serve"]' in STAGES[target]


def test_the_base_image_can_be_named_by_its_digest():
    assert re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)[:3] == ["${BASE_IMAGE}"] * 3


def test_the_version_of_the_image_is_the_distributions():
    assert f"ARG VERSION={PROJECT['version']}\n" in TEXT


def test_the_large_layer_has_what_the_extras_ask_for(tmp_path: Path):
    extras = re.search(r"^ARG EXTRAS=(.*)$", TEXT, re.MULTILINE)[1]
    found = requirements(extras, tmp_path)
    assert set(PROJECT["dependencies"]) <= set(found)
    for extra in ("serve", *extras.split(",")):
        assert {line for line in PROJECT["optional-dependencies"][extra] if "midfill[" not in line} <= set(found)
    assert not any(line.startswith("pytest") for line in found)


def test_the_context_holds_what_is_copied_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for arguments in re.findall(r"^COPY (?!--)(.*)$", TEXT, re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_a_damaged_model_is_not_baked_in(tmp_path: Path):
    """The check of Dockerfile.model, run as the build would."""
    text = (DEPLOY / "docker" / "Dockerfile.model").read_text(encoding="utf-8")
    check = re.search(r"^RUN (.*?)(?<!\\)$", text, re.MULTILINE | re.DOTALL)[1].replace("\\\n", "")
    check = check.replace("/tmp/sums", str(tmp_path / "sums"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "manifest.json").write_text(
        json.dumps({"config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"})
    )
    assert subprocess.run(["sh", "-c", check], cwd=model).returncode == 0
    (model / "config.json").write_text("{ }")
    assert subprocess.run(["sh", "-c", check], cwd=model, capture_output=True).returncode != 0
