"""Programs of the system that tests run for real: found, or the test says what is missing."""

from __future__ import annotations

import os

import pytest

from deploy.cluster.programs import Missing, find


def program(name: str, package: str) -> str:
    """The path of a program; without it the calling test is skipped, on CI it fails. `package` is Debian's name."""
    try:
        return find(name, package)
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
