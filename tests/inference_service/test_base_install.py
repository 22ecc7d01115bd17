"""`pip install midfill[serve]` is enough to serve: the rest is imported only where a setting asks for it."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# import names of what other extras bring
OTHERS = (
    "redis", "psycopg", "grpc", "grpc_health", "grpc_reflection", "opentelemetry.sdk", "opentelemetry.exporter",
    "datasketch", "matplotlib", "scipy", "tensorboard", "tokenizers", "onnx", "onnxruntime", "onnxscript", "gguf",
    "transformers", "pytest", "hypothesis", "openai",
)  # fmt: skip
SCRIPT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if f"{{name}}.".startswith(tuple(f"{{other}}." for other in {others})):
            raise ModuleNotFoundError(f"No module named {{name!r}}: it is not in the extra serve", name=name)

sys.meta_path.insert(0, Absent())
from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.settings import Settings

create_app(Settings(database="none"), LocalBackend("nano"))
"""


def test_the_service_needs_no_package_of_another_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any(line.startswith(OTHERS) for line in extras["serve"])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(others=OTHERS)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
