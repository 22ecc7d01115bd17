"""Schemathesis, with all its checks, against a live service: the OpenAPI document and the answers agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def call_all(url: str, folder: Path, *flags: str) -> int:
    """Number of calls made; fails with the report of the first disagreements."""
    program = Path(sys.executable).with_name("st")
    common = ["--checks", "all", "--continue-on-failure", "--no-color", "--generation-database", "none"]
    done = subprocess.run(
        [program, "run", f"{url}/openapi.json", *common, *flags], cwd=folder, capture_output=True, text=True
    )
    report = done.stdout[done.stdout.find("= FAILURES") :]
    assert done.returncode == 0, report[-8000:] or done.stderr
    return int(re.findall(r"([\d,]+) generated", done.stdout)[-1].replace(",", ""))


@pytest.fixture
def url(start_process):
    return start_process("--port", "0").ready()


@pytest.mark.timeout(200)
def test_answers_agree_with_the_document(url, tmp_path):
    assert call_all(url, tmp_path, "--seed", "1", "--max-examples", "5", "--phases", "examples,coverage,fuzzing") > 200


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_ten_thousand_calls_agree_with_the_document(url, tmp_path):
    calls, seed = 0, 0
    while calls < 10_000:
        seed += 1
        calls += call_all(url, tmp_path, "--seed", str(seed), "--max-examples", "400", "--max-time", "240")
