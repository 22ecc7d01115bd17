"""Programs that tests start: real ones, or the test says what is missing; on CI it fails then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.cluster.programs import Missing, find

TOOLS = Path(__file__).parent.parent / ".tools"


def program(name: str, package: str) -> str:
    """The path of a program; without it the calling test is skipped, on CI it fails. `package` is Debian's name."""
    try:
        return find(name, package)
    except Missing as error:
        missing(str(error))


def tool(path: str, installer: str) -> str:
    """The path of a program under `.tools`, as `program`; `installer` is the command that puts it there."""
    return shutil.which(TOOLS / path) or missing(f"{path} was not found: run `{installer}`")


def missing(message: str) -> NoReturn:
    """Skip the calling test; on CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
