"""Packages by name: from the folder of downloads, else from the index that pip is configured for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from training.corpus.archives import ArchiveSource, sdist_source
from training.corpus.sources import NotUsable

_DOWNLOADS = 8  # at a time


class BadPackageList(ValueError):
    """A list of packages that cannot be used; the message says the path and what to do."""


def read_package_list(path: Path) -> list[str]:
    """Names separated by white space; a line that begins with `#` is a comment. Raises BadPackageList."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPackageList(f"{path} cannot be read ({error}): give a text file with names of packages") from error
    names = [name for line in lines if not line.startswith("#") for name in line.split()]
    if not names:
        raise BadPackageList(f"{path} names no package: write names of packages into it, one a line")
    return list(dict.fromkeys(names))


def package_sources(names: list[str], cache: Path) -> Iterator[ArchiveSource | NotUsable]:
    """The source of each name, or why it stays out, in their order; `cache` keeps what is downloaded.

    A package that `cache` holds is taken from there, in its newest version, without asking the index.
    """
    cache.mkdir(parents=True, exist_ok=True)
    cached = _cached(cache)

    def open_package(name: str) -> ArchiveSource | NotUsable:
        try:
            return sdist_source(cached.get(canonicalize_name(name)) or download_sdist(name, cache))
        except NotUsable as reason:
            return NotUsable(f"{name}: {reason}")

    pool = ThreadPoolExecutor(_DOWNLOADS)
    try:
        yield from pool.map(open_package, names)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _cached(cache: Path) -> dict[str, Path]:
    newest: dict[str, tuple[Version, Path]] = {}
    for path in sorted(cache.iterdir()):
        try:
            name, version = parse_sdist_filename(path.name)
        except (InvalidSdistFilename, InvalidVersion):
            continue
        if name not in newest or version > newest[name][0]:
            newest[name] = (version, path)
    return {name: path for name, (_, path) in newest.items()}


def download_sdist(name: str, folder: Path) -> Path:
    """Fetch the newest source distribution of `name` into `folder`; the index's digest is checked. Raises NotUsable."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple
    from requests import RequestException

    with PyPISimple(_configured_index() or PYPI_SIMPLE_ENDPOINT) as client:
        try:
            page = client.get_project_page(name, timeout=60)
        except (NoSuchProjectError, RequestException) as error:
            raise NotUsable(f"not on the index: {type(error).__name__}") from error
        releases = []
        for package in page.packages:
            if package.package_type == "sdist" and package.version and package.filename.endswith((".tar.gz", ".zip")):
                try:
                    version = Version(package.version)
                except InvalidVersion:
                    continue
                if not version.is_prerelease and not package.is_yanked:
                    releases.append((version, package))
        if not releases:
            raise NotUsable("no source distribution")
        package = max(releases, key=lambda release: release[0])[1]
        path = folder / package.filename
        partial = path.with_name(f"{path.name}.partial")  # so that a killed download is never taken for an archive
        try:
            client.download_package(package, partial, timeout=120)
            partial.replace(path)
        except (RequestException, ValueError) as error:
            raise NotUsable(f"download failed: {type(error).__name__}: {error}") from error
        return path


def _configured_index() -> str | None:
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
