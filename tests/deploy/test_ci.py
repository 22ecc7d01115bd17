"""The pipelines: what GitHub and Jenkins run is there, and scripts do what they say, with stand-ins for the world."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.deploy.manifests import DEPLOY
from tests.programs import program

ROOT = DEPLOY.parent
CI = DEPLOY / "ci"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JENKINSFILE = CI / "Jenkinsfile"
TOOLS = Path(sys.executable).parent
IMAGE = "registry.example.com/midfill@sha256:" + "0" * 64


def test_workflows_are_valid_and_safe():
    schema = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    checked = subprocess.run(schema, capture_output=True, text=True, timeout=280)
    assert checked.returncode == 0, checked.stdout
    audited = subprocess.run(
        [TOOLS / "zizmor", "--offline", "--no-progress", *WORKFLOWS], capture_output=True, text=True, timeout=280
    )
    assert audited.returncode == 0, audited.stdout


def test_compose_files_are_valid():
    files = sorted((DEPLOY / "compose").glob("*.yaml"))
    schema = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    checked = subprocess.run(schema, capture_output=True, text=True, timeout=280)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_jobs_end(path: Path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize("path", [*WORKFLOWS, JENKINSFILE], ids=lambda path: path.name)
def test_the_scripts_that_are_called_are_there(path: Path):
    called = set(re.findall(r"deploy/ci/[\w.-]+\.(?:sh|py)", path.read_text(encoding="utf-8")))
    assert called
    for script in called:
        assert (ROOT / script).is_file()
        assert script.endswith(".py") or os.access(ROOT / script, os.X_OK), f"{script} cannot be run"


def test_jenkins_does_what_github_does():
    steps = [
        set(re.findall(r"deploy/ci/([\w.-]+)", path.read_text(encoding="utf-8"))) for path in (*WORKFLOWS, JENKINSFILE)
    ]
    assert set().union(*steps[:-1]) == steps[-1]


def test_the_jenkinsfiles_brackets_and_quotes_close():
    """A light check; npm-groovy-lint, which reads Groovy, takes Java and ten seconds."""
    text = re.sub(r"^\s*//.*", "", JENKINSFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"'(?:[^'\\\n]|\\.)*'", "''", text)
    assert "'" not in text.replace("''", ""), "a quote is open"
    open_ones: list[str] = []
    for character in text:
        if character in "{[(":
            open_ones.append(character)
        elif character in "}])":
            assert open_ones and open_ones.pop() + character in ("{}", "[]", "()")
    assert not open_ones
    assert len(re.findall(r"^\s+stage\(", text, re.MULTILINE)) == len(re.findall(r"^\s+steps \{", text, re.MULTILINE))


@contextmanager
def stand_in(tmp_path: Path, **programs: str) -> Iterator[tuple[dict[str, str], Path]]:
    """An environment in which `programs` are scripts that note how they were called, and the file with their notes."""
    folder, notes = tmp_path / "bin", tmp_path / "notes"
    folder.mkdir()
    notes.touch()
    for name, body in programs.items():
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {notes}\n{body}\n')
        (folder / name).chmod(0o755)
    yield {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, notes


@contextmanager
def prometheus(canary: dict[str, float], stable: dict[str, float]) -> Iterator[str]:
    """Answers the canary's three questions with `requests`, `failed` and `first_s` of each slot."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)["query"][0]
            slot = canary if 'slot="canary"' in query else stable
            name = "first_s" if "histogram_quantile" in query else "failed" if "5.." in query else "requests"
            body = json.dumps({"data": {"result": [{"value": [0, str(slot[name])]}]}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


GOOD = {"requests": 1000, "failed": 1, "first_s": 0.08}


@pytest.mark.parametrize(
    ("canary", "promoted"),
    [
        (GOOD, True),
        (GOOD | {"failed": 50}, False),
        (GOOD | {"first_s": 0.4}, False),
        (GOOD | {"requests": 3, "failed": 0}, False),
        (GOOD | {"first_s": float("nan")}, True),
    ],
)
def test_a_canary_is_promoted_or_taken_back(tmp_path: Path, canary: dict[str, float], promoted: bool):
    with stand_in(tmp_path, kubectl="") as (environment, notes), prometheus(canary, GOOD) as url:
        command = [
            sys.executable,
            CI / "canary.py",
            IMAGE,
            "--prometheus",
            url,
            "--minutes",
            "0.02",
            "--interval-s",
            "0.5",
        ]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    asked = notes.read_text().splitlines()
    assert ran.returncode == (0 if promoted else 1), ran.stderr
    assert ("kubectl --namespace midfill set image deployment/midfill midfill=" + IMAGE in asked) is promoted
    weights = [re.findall(r'"value": (\d+)', line) for line in asked if "httproute/midfill" in line]
    assert weights == [["90", "10"], ["100", "0"]]
    assert asked[-1] == "kubectl --namespace midfill scale deployment/midfill-canary --replicas 0"


def test_a_canary_that_cannot_be_watched_is_taken_back(tmp_path: Path):
    with stand_in(tmp_path, kubectl="") as (environment, notes):
        command = [sys.executable, CI / "canary.py", IMAGE, "--prometheus", "http://127.0.0.1:9", "--minutes", "0.02"]
        ran = subprocess.run(
            [*command, "--interval-s", "0.1"], env=environment, capture_output=True, text=True, timeout=280
        )
    assert ran.returncode == 1
    assert "could not be watched" in ran.stderr
    assert "--replicas 0" in notes.read_text().splitlines()[-1]


KUBECTL = 'case "$1" in kustomize) exec {real} "$@";; apply) cat > {applied}.$$;; esac\n{fault}'


@pytest.mark.parametrize("fails", [False, True])
def test_a_release_is_deployed_by_digest_after_its_tables_or_undone(tmp_path: Path, fails: bool):
    real = program("kubectl", "kubernetes-client of Debian 13 or later")
    undone = tmp_path / "undone"
    fault = f'case "$*" in *"rollout status"*) test -e {undone};; *"rollout undo"*) touch {undone};; esac'
    copy = tmp_path / "deploy"
    shutil.copytree(DEPLOY / "kubernetes", copy / "kubernetes")
    shutil.copytree(CI, copy / "ci")
    body = KUBECTL.format(real=real, applied=tmp_path / "applied", fault=fault if fails else "")
    with stand_in(tmp_path, kubectl=body) as (environment, notes):
        ran = subprocess.run([copy / "ci" / "deploy.sh", "aws", IMAGE], env=environment, capture_output=True, text=True)
    assert ran.returncode == (1 if fails else 0), ran.stderr
    asked = notes.read_text()
    assert asked.index("wait --for=condition=complete") < asked.index("rollout status deployment/midfill")
    assert ("rollout undo" in asked) is fails
    applied = [yaml.safe_load_all(path.read_text()) for path in tmp_path.glob("applied.*")]
    manifests = [one for documents in applied for one in documents]
    images = {
        container["image"]
        for one in manifests
        if one["kind"] in ("Deployment", "Job")
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    assert images == {IMAGE}
    assert not list((copy / "kubernetes").glob(".release-*"))


@pytest.mark.parametrize("image", ["registry.example.com/midfill:latest", "midfill"])
def test_a_tag_that_may_move_is_not_deployed(tmp_path: Path, image: str):
    with stand_in(tmp_path, kubectl="") as (environment, notes):
        ran = subprocess.run([CI / "deploy.sh", "aws", image], env=environment, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "digest" in ran.stderr
    assert notes.read_text() == ""
