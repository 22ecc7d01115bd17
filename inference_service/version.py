"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("midfill")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


VERSION = _version()
