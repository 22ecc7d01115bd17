"""Programs of the system that tests run for real: found, or the test says what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# where Debian keeps what is not meant for everybody's PATH
_ELSEWHERE = (
    "/usr/sbin",
    "/usr/local/sbin",
    *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
)


def program(name: str, package: str) -> str:
    """The path of a program; without it the calling test is skipped, on CI it fails. `package` is Debian's name."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ELSEWHERE))
    if found is None:
        message = f"{name} is not installed (Debian package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
