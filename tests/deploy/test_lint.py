"""The files of deploy/ and the workflows, read by the linters of their languages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import DEPLOY

ROOT = DEPLOY.parent
TOOLS = Path(sys.executable).parent
YAML = sorted([*DEPLOY.rglob("*.y*ml"), *(ROOT / ".github").rglob("*.y*ml")])
SCRIPTS = sorted(DEPLOY.rglob("*.sh"))
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile*"))
YAML_RULES = """
extends: default
rules:
  line-length: {max: 200}
  document-start: disable
  comments: {min-spaces-from-content: 1}
  comments-indentation: disable
  truthy: {check-keys: false}
  braces: {max-spaces-inside: 1}
  indentation: {spaces: consistent, indent-sequences: whatever}
"""


def says(*command: str | Path) -> str:
    """What a linter of this virtual environment says; "" when it is content."""
    ran = subprocess.run([TOOLS / command[0], *command[1:]], capture_output=True, text=True, timeout=280, cwd=ROOT)
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_yaml():
    assert says("yamllint", "--strict", "-d", YAML_RULES, *YAML) == ""


def test_shell_scripts():
    assert SCRIPTS
    assert says("shellcheck", "--severity=warning", *SCRIPTS) == ""


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles(path: Path):
    assert says("hadolint", "--failure-threshold", "info", path) == ""


@pytest.mark.parametrize(
    ("tool", "name", "text"),
    [
        ("yamllint", "x.yaml", "a: 1\na: 2\n"),
        ("shellcheck", "x.sh", "#!/bin/sh\nrm -rf $1/x\n"),
        ("hadolint", "Dockerfile", "FROM debian\nRUN cd /x\n"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, tool: str, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    assert says(tool, path) != ""
