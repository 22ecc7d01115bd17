"""Where documents come from: the standard library, local folders, source distributions of a package index."""

from __future__ import annotations

import email
import email.message
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.corpus.licences import permissive_licence

STANDARD_LIBRARY = "python-stdlib"


@dataclass(frozen=True, slots=True)
class Source:
    """One package or folder: what the manifest says of it, and its Python files as (posix path, text)."""

    name: str
    version: str
    licence: str
    sha256: str
    read_files: Callable[[], Iterator[tuple[str, str]]]


class NotUsable(ValueError):
    """A source that has to stay out; the message says why."""


def folder_source(folder: Path, name: str, version: str, licence: str) -> Source:
    """Every `*.py` below `folder`. Raises NotUsable when there is no such folder."""
    if not folder.is_dir():
        raise NotUsable(f"{folder} is not a folder")

    def read_files() -> Iterator[tuple[str, str]]:
        for path in sorted(folder.rglob("*.py")):
            try:
                yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue  # not text, or gone meanwhile

    return Source(name, version, licence, "", read_files)


def standard_library() -> Source:
    """The running interpreter's standard library, PSF licence; ships with installed packages left out."""
    version = ".".join(map(str, sys.version_info[:3]))
    return folder_source(Path(sysconfig.get_paths()["stdlib"]), STANDARD_LIBRARY, version, "PSF-2.0")


def sdist_source(archive: Path, sha256: str) -> Source:
    """A source distribution on disk. Raises NotUsable without readable metadata or a permissive licence."""
    try:
        metadata = _read_metadata(archive)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise NotUsable(f"{archive.name} cannot be read: {error}") from error
    licence = permissive_licence(metadata)
    if licence is None:
        raise NotUsable(f"licence not known to be permissive ({str(metadata.get('License'))[:40]!r})")
    name, version = str(metadata.get("Name")), str(metadata.get("Version"))

    def read_files() -> Iterator[tuple[str, str]]:
        for member, content in _members(archive, lambda path: path.endswith(".py")):
            try:
                yield str(PurePosixPath(*PurePosixPath(member).parts[1:])), content.decode("utf-8")
            except UnicodeDecodeError:
                continue

    return Source(name, version, licence, sha256, read_files)


def _read_metadata(archive: Path) -> email.message.Message:
    for _, content in _members(archive, lambda path: path.count("/") == 1 and path.endswith("/PKG-INFO")):
        return email.message_from_bytes(content)
    raise NotUsable("no PKG-INFO")


def _members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if wanted(name):
                    yield name, opened.read(name)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and wanted(member.name):
                file = tar.extractfile(member)
                assert file is not None  # regular files only
                yield member.name, file.read()


def download_sdist(name: str, folder: Path) -> tuple[Path, str]:
    """Fetch the newest source distribution of `name` into `folder`; returns its path and SHA-256.

    Nothing of the package is executed. The index is the one that pip is configured for. Raises NotUsable.
    """
    from packaging.version import InvalidVersion, Version
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
        digest = package.digests.get("sha256", "")
        if not path.exists():
            try:
                # pypi-simple checks the digest and removes a partial file
                client.download_package(package, path, timeout=120)
            except (RequestException, OSError, ValueError) as error:
                raise NotUsable(f"download failed: {type(error).__name__}: {error}") from error
        return path, digest


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
