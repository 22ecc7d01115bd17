"""Writes the Python code of inference_service/api/grpc/midfill.proto. Run it after a change of the proto;
tests/inference_service/api/test_grpc.py notices when it was forgotten.

    python -m tools.grpc_code
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTO = "inference_service/api/grpc/midfill.proto"


def generate(out: Path) -> None:
    """Write the generated modules below `out`, at the place of the proto."""
    outputs = [f"--{kind}={out}" for kind in ("python_out", "pyi_out")]
    if protoc.main(["protoc", f"-I{ROOT}", *outputs, PROTO]):
        sys.exit("protoc failed")


if __name__ == "__main__":
    generate(ROOT)
