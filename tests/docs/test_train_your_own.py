"""docs/train-your-own.md is executed: its shell blocks, in their order, in an empty folder."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "train-your-own.md"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.timeout(400)
def test_a_folder_of_code_becomes_a_served_completion_with_the_documented_commands(tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    script = "set -euo pipefail\ntrap 'kill %% 2>/dev/null || true' EXIT\n" + "".join(blocks)
    script = script.replace(":8000", f":{(port := free_port())}").replace("--port 8000", f"--port {port}")
    for name, package in (("code", "inference_service"), ("measured", "lsp_server")):
        shutil.copytree(REPOSITORY / package, tmp_path / name, ignore=shutil.ignore_patterns("bundled", "__pycache__"))
    environment = os.environ | {
        "CODE": str(tmp_path / "code"),
        "MEASURED": str(tmp_path / "measured"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] > 0
    assert "measured" in (tmp_path / "corpus" / "manifest.json").read_text()
