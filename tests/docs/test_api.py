"""docs/api.md is what the OpenAPI document says, and its examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.api_docs import PAGE, URL, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_generated_from_the_document():
    assert PAGE.read_text() == page(), "run python -m tools.api_docs"


@pytest.fixture(scope="module")
def url():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIDFILL_")}
    command = [sys.executable, "-m", "inference_service", "--port", "0", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**clean, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().split()[3]
        finally:
            process.terminate()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_examples_run_against_a_live_service(url, tmp_path):
    shell, python = blocks("sh"), blocks("python")
    assert len(shell) >= 12 and len(python) >= 5
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    for command, examples in (["bash", "-euc"], shell), ([sys.executable, "-c"], python):
        script = "\n".join(examples).replace(URL, url)
        done = subprocess.run([*command, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout and '"error"' not in done.stdout and "'error'" not in done.stdout, done.stdout
