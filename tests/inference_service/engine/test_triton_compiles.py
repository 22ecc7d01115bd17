"""The Triton kernels compile for real GPUs, though none is there: the interpreter forgives what a compiler does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.full
@pytest.mark.timeout(700)
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_to_machine_code(capability, tmp_path):
    if os.environ.get("CI") != "true":
        pytest.importorskip("triton", reason="Triton is missing (Linux on x86-64 only): pip install triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py")), str(capability)],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) == 15
