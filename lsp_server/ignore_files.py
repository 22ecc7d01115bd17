"""What .gitignore, .git/info/exclude and .midfillignore say about a file, read again when they change."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

log = logging.getLogger(__name__)

NAMES = (".gitignore", ".midfillignore")
EXCLUDE = ".git/info/exclude"
_CHECKED_S = 2.0
_LARGEST_BYTES = 200_000


@dataclass
class _Patterns:
    checked_at: float
    changed_ns: int
    spec: GitIgnoreSpec | None


class IgnoreFiles:
    """Looks from the repository's root, or else the workspace folder, down to the file; deeper ones decide.

    `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._read: dict[Path, _Patterns] = {}

    def ignoring(self, file: str, folders: Sequence[str]) -> str | None:
        """The name of the ignore file, one of NAMES or EXCLUDE, that names `file` (absolute, with `/`), or None."""
        path = Path(file)
        decided: str | None = None
        above = self._folders(path, folders)
        sources = [(folder, name, folder / name) for folder in above for name in NAMES]
        # the order of gitignore(5), section "Description"
        for folder, name, source in [(above[0], EXCLUDE, _exclude(above[0])), *sources]:
            spec = self._spec(source)
            included = None if spec is None else spec.check_file(path.relative_to(folder).as_posix()).include
            if included is not None:
                decided = name if included else None
        return decided

    def _folders(self, path: Path, folders: Sequence[str]) -> list[Path]:
        """The folders whose ignore files count, the outermost first."""
        above = list(path.parents)
        roots = [parent for parent in above if (parent / ".git").exists()] or [
            parent for parent in above if parent.as_posix() in folders
        ]
        # Without a root only the file's own folder: what lies further up is another matter.
        top = above.index(roots[0]) if roots else 0
        return above[: top + 1][::-1]

    def _spec(self, path: Path) -> GitIgnoreSpec | None:
        known = self._read.get(path)
        now = self._clock()
        if known is not None and now - known.checked_at < _CHECKED_S:
            return known.spec
        try:
            changed_ns = path.stat().st_mtime_ns
        except OSError:
            changed_ns = -1
        if known is None or known.changed_ns != changed_ns:
            known = self._read[path] = _Patterns(now, changed_ns, None if changed_ns < 0 else _parse(path))
        known.checked_at = now
        return known.spec


@lru_cache(maxsize=256)
def _exclude(root: Path) -> Path:
    """Where `info/exclude` of a repository is: all worktrees share one (gitrepository-layout(5))."""
    git = root / ".git"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if git.is_file():
            git = root / git.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
            common = git / "commondir"
            git = git / common.read_text(encoding="utf-8").strip() if common.exists() else git
    return git / "info" / "exclude"


def _parse(path: Path) -> GitIgnoreSpec | None:
    from pathspec import GitIgnoreSpec

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return GitIgnoreSpec.from_lines(file.read(_LARGEST_BYTES).splitlines())
    except (OSError, ValueError) as error:
        log.warning("%s cannot be used (%s)", path.name, type(error).__name__)
        return None
