"""Source distributions on disk as sources. They are read, never unpacked to disk or executed."""

from __future__ import annotations

import email
import email.message
import hashlib
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.corpus.filters import MAX_BYTES, rejected_path
from training.corpus.licences import permissive_licence
from training.corpus.sources import MAX_PACKAGE_CHARS, NotUsable
from training.corpus.split import split_of

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError)


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A `.tar.gz` or `.zip` with everything below one folder."""

    archive: Path
    name: str
    version: str
    licence: str
    sha256: str
    max_chars: int | None = MAX_PACKAGE_CHARS

    @property
    def split(self) -> str:
        return split_of(self.name)

    def read(self, counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
        def wanted(member: str, size: int) -> bool:
            if not member.endswith(".py"):
                return False
            reason = rejected_path(_inside(member)) or ("long" if size > MAX_BYTES else None)
            if reason:
                counts[f"left out: {reason}"] += 1
            return reason is None

        try:
            for member, content in _members(self.archive, wanted):
                yield _inside(member), content
        except _BROKEN as error:
            raise NotUsable(_unreadable(self.archive, error)) from error

    def parts(self) -> list[ArchiveSource]:
        return [self]


def sdist_source(archive: Path) -> ArchiveSource:
    """A source distribution. Raises NotUsable without readable metadata or a permissive licence."""
    try:
        with archive.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        metadata = _read_metadata(archive)
    except _BROKEN as error:
        raise NotUsable(_unreadable(archive, error)) from error
    licence = permissive_licence(metadata)
    if licence is None:
        raise NotUsable(f"licence not known to be permissive ({str(metadata.get('License'))[:40]!r})")
    return ArchiveSource(archive, str(metadata.get("Name")), str(metadata.get("Version")), licence, sha256)


def _unreadable(archive: Path, error: BaseException) -> str:
    return f"{archive} cannot be read ({error}): delete it, and it is downloaded again"


def _inside(member: str) -> str:
    """The path below the archive's one folder."""
    parts = PurePosixPath(member).parts
    return str(PurePosixPath(*(parts[1:] or parts)))


def _read_metadata(archive: Path) -> email.message.Message:
    for _, content in _members(archive, lambda path, _: path.count("/") == 1 and path.endswith("/PKG-INFO")):
        return email.message_from_bytes(content)
    raise NotUsable("no PKG-INFO")


def _members(archive: Path, wanted: Callable[[str, int], bool]) -> Iterator[tuple[str, bytes]]:
    """Files of which `wanted(path, bytes)`; the others are not read into memory."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if wanted(info.filename, info.file_size):
                    yield info.filename, opened.read(info)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and wanted(member.name, member.size):
                file = tar.extractfile(member)
                assert file is not None  # regular files only
                yield member.name, file.read()
