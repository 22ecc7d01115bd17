"""The VS Code extension, packed as `make vsix` packs it; built when a test needs it first."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from filelock import FileLock

from tests.programs import TOOLS, missing

REPO = Path(__file__).parent.parent
SERVER = REPO / "editors" / "vscode" / "server" / "main.py"  # after the build
NODE = TOOLS / "vscode" / "bin"


@cache
def built_vsix() -> Path:
    """The path of the .vsix. Without npm the calling test is skipped, on CI it fails."""
    path = os.pathsep.join([str(NODE), os.environ["PATH"]])
    if shutil.which("npm", path=path) is None:
        missing("npm was not found: install Node.js 22 or newer, or run `tools/install_vscode.sh .tools/vscode`.")
    lock = REPO / ".tools" / "vsix.lock"  # tests run in several processes, and each needs the whole file
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        built = subprocess.run(
            ["make", "--no-print-directory", "vsix"],
            cwd=REPO,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        )
    assert built.returncode == 0, built.stdout + built.stderr
    (vsix,) = (REPO / "editors" / "vscode").glob("*.vsix")
    return vsix
