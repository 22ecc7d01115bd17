"""deploy_end_to_end.sh goes from a folder of code to a served, monitored cluster."""

import shutil
import subprocess
import sys

import pytest

from deploy.cluster.processes import ROOT, free_port, service_environment
from tests.programs import program


@pytest.mark.full
@pytest.mark.timeout(1900)
def test_a_folder_of_code_becomes_a_monitored_cluster(tmp_path):
    for name in ("nginx", "prometheus", "jq", "curl"):
        program(name, name)
    for name, package in (("code", "inference_service/api"), ("measured", "lsp_server/postprocess")):
        shutil.copytree(ROOT / package, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    ports = ("MIDFILL_PORT", "MIDFILL_OPERATOR_PORT", "MIDFILL_PROMETHEUS_PORT")
    environment = service_environment({}) | {name: str(free_port()) for name in ports} | {"PYTHON": sys.executable}
    folders = [tmp_path / name for name in ("code", "measured", "work")]
    words = ["timeout", "1700", "deploy/deploy_end_to_end.sh", "--smoke", *folders]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    served = [line for line in done.stdout.splitlines() if " serves " in line]
    assert len(served) == 3 and len({line.split()[-1] for line in served}) == 1
    assert "firing: " not in done.stdout


def test_what_is_missing_is_told(tmp_path):
    words = ["bash", str(ROOT / "deploy" / "deploy_end_to_end.sh"), "--smoke", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "deploy_end_to_end.sh --smoke CODE MEASURED" in done.stderr
