"""`pip install midfill[serve]` is enough to serve: the rest is imported only where a setting asks for it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# import names of what other extras bring
OTHERS = (
    "redis", "psycopg", "grpc", "grpc_health", "grpc_reflection", "opentelemetry.sdk", "opentelemetry.exporter",
    "datasketch", "matplotlib", "scipy", "tensorboard", "tokenizers", "onnx", "onnxruntime", "onnxscript", "gguf",
    "transformers", "pytest", "hypothesis", "openai",
)  # fmt: skip
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if f"{{name}}.".startswith(tuple(f"{{other}}." for other in {others})):
            raise ModuleNotFoundError(f"No module named {{name!r}}: it is not in this extra", name=name)

sys.meta_path.insert(0, Absent())
"""
SERVICE = """
from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.settings import Settings

create_app(Settings(database="none"), LocalBackend("nano"))
"""


def test_the_service_needs_no_package_of_another_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any(line.startswith(OTHERS) for line in extras["serve"])
    done = without(OTHERS, SERVICE)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("absent", "command", "extra"),
    [
        ("uvicorn", "inference_service --port 0", "serve"),
        ("sqlalchemy", "inference_service keys list", "serve"),
        ("tqdm", "training train nano", "train"),
        ("gguf", "training export nano --format gguf --out nano.gguf", "export"),
    ],
)
def test_a_command_says_which_extra_it_lacks(absent, command, extra):
    package, *arguments = command.split()
    done = without((absent,), f"sys.argv[1:] = {arguments}\nfrom {package}.__main__ import main\nsys.exit(main())")
    assert done.returncode == 1
    assert f'{absent} is not installed: pip install "midfill[{extra}]"' in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def without(packages, script):
    """`script` where these packages are not installed."""
    return subprocess.run(
        [sys.executable, "-c", ABSENT.format(others=packages) + script], cwd=ROOT, capture_output=True, text=True
    )
