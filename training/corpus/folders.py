"""Local folders as sources: the team's own code, and the standard library."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from training.corpus.filters import MAX_BYTES, is_left_out_folder, rejected_path
from training.corpus.sources import MAX_PACKAGE_CHARS, NotUsable
from training.corpus.split import STANDARD_LIBRARY, split_of

_PART_FILES = 500  # what one worker takes of a large folder at a time


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Some files (posix paths below `root`) of a folder; `left_out` counts those that were not even listed."""

    root: Path
    name: str
    version: str
    licence: str
    sha256: str
    paths: tuple[str, ...]
    max_chars: int | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    held_out: bool = False

    @property
    def split(self) -> str:
        return "heldout" if self.held_out else split_of(self.name)

    def read(self, counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
        counts.update(self.left_out)
        for path in self.paths:
            try:
                content = (self.root / path).read_bytes()
            except OSError:
                counts["left out: unreadable"] += 1
            else:
                yield path, content

    def parts(self) -> list[FolderSource]:
        """This source as several, so that a large folder keeps all workers busy and an interrupt loses little."""
        if self.max_chars is not None:  # which files are taken depends on all of them
            return [self]
        return [
            replace(self, paths=self.paths[start : start + _PART_FILES], left_out=Counter() if start else self.left_out)
            for start in range(0, max(1, len(self.paths)), _PART_FILES)
        ]


def folder_source(
    folder: Path,
    name: str,
    version: str,
    licence: str,
    tracked: Iterable[str] | None = None,
    max_chars: int | None = None,
) -> FolderSource:
    """The `*.py` below `folder`, or those `tracked` (posix paths below it). Raises NotUsable when there are none."""
    if not folder.is_dir():
        raise NotUsable(f"{folder} is not a folder: give the folder that holds your code")
    left_out: Counter[str] = Counter()
    environments: dict[Path, bool] = {}
    digest, paths, seen = hashlib.sha256(), [], 0
    for path in sorted(_walk(folder, left_out) if tracked is None else tracked):
        seen += 1
        reason = rejected_path(path) or _rejected_file(folder, path, environments)
        if reason is None:
            try:
                with (folder / path).open("rb") as file:
                    digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}\n".encode())
                paths.append(path)
            except OSError:
                reason = "unreadable"
        if reason:
            left_out[f"left out: {reason}"] += 1
    if not seen:
        raise NotUsable(f"{folder} holds no Python file: give the folder that holds your code")
    return FolderSource(folder, name, version, licence, digest.hexdigest(), tuple(paths), max_chars, left_out)


def standard_library() -> FolderSource:
    """The running interpreter's standard library, PSF licence; installed packages are left out."""
    version = ".".join(map(str, sys.version_info[:3]))
    folder = Path(sysconfig.get_paths()["stdlib"])
    return folder_source(folder, STANDARD_LIBRARY, version, "PSF-2.0", max_chars=MAX_PACKAGE_CHARS)


def _walk(root: Path, left_out: Counter[str]) -> Iterator[str]:
    """Paths of `*.py` below `root`, without going into folders that stay out; links to folders are not followed."""

    def unreadable(_: OSError) -> None:
        left_out["left out: unreadable folder"] += 1

    for folder, names, files in os.walk(root, onerror=unreadable):
        inside = Path(folder)
        wanted = [name for name in names if not is_left_out_folder(name) and not _is_environment(inside / name)]
        left_out["left out: whole folders (environments, caches, vendored, tests)"] += len(names) - len(wanted)
        names[:] = wanted
        for name in files:
            if name.endswith(".py"):
                yield (inside / name).relative_to(root).as_posix()


def _rejected_file(root: Path, path: str, environments: dict[Path, bool]) -> str | None:
    file = root / path
    for folder in file.parents[: path.count("/")]:
        if folder not in environments:
            environments[folder] = _is_environment(folder)
        if environments[folder]:
            return "in a virtual environment"
    try:
        path.encode()
        if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
            return "a link that leaves the folder"
        status = file.stat()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    except OSError:
        return "unreadable"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    return "long" if status.st_size > MAX_BYTES else None


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()
