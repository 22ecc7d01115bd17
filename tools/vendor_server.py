"""Puts the language server and the packages it needs into the VS Code extension, so that a Python interpreter is all
that it asks of a machine. `make vsix` runs it.

    python -m tools.vendor_server
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTENSION = ROOT / "editors" / "vscode"
SERVER = EXTENSION / "server"
LIBS = SERVER / "libs"

# The packages are not in the same folder as `lsp_server`: that one becomes the module path of the local service, which
# has versions of its own.
MAIN = '''\
"""Starts the language server of this folder, with its packages in libs."""

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here / "libs")]

from lsp_server.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
'''


def vendor() -> None:
    """Write `editors/vscode/server` anew. Raises CalledProcessError when pip does not find a pure wheel."""
    shutil.rmtree(SERVER, ignore_errors=True)
    shutil.copytree(ROOT / "lsp_server", SERVER / "lsp_server", ignore=shutil.ignore_patterns("__pycache__"))
    (SERVER / "main.py").write_text(MAIN)
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none", "--python-version=3.11"]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", *pure),
            *("--constraint", str(ROOT / "constraints.txt"), "--requirement", str(EXTENSION / "requirements.txt")),
            *("--target", str(LIBS)),
        ],
        check=True,
    )
    shutil.rmtree(LIBS / "bin", ignore_errors=True)


if __name__ == "__main__":
    vendor()
