"""Whether text of a file may leave the machine at all: the file that is edited as well as files for context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from lsp_server.documents import Snapshot, file_of
from lsp_server.ignore import allowed_by, ignored_by
from lsp_server.ignore_files import IgnoreFiles
from lsp_server.settings import Settings

LARGEST_CHARS = 5_000_000
"""Nobody types in files beyond that; they are data."""

_LONGEST_LINE = 5_000
_LINES_LOOKED_AT = 20_000  # characters around the cursor
_ON_DISK = {"file", "vscode-remote", "vscode-notebook-cell"}


class FileRules:
    """Each rule answers with a reason, or None to let the file pass. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._ignore_files = IgnoreFiles(clock)

    def refusal(self, request: Snapshot, folders: Sequence[str], settings: Settings) -> str | None:
        """Why no text of the document may be sent, or None; `folders` are the workspace's roots, as paths with `/`."""
        return self.file_refusal(request.uri, folders, settings) or _content_refusal(request)

    def file_refusal(self, uri: str, folders: Sequence[str], settings: Settings) -> str | None:
        """The part of `refusal` that the text has no say in."""
        return self.path_refusal(file_of(uri), folders, settings, urlsplit(uri).scheme in _ON_DISK)

    def path_refusal(self, file: str, folders: Sequence[str], settings: Settings, on_disk: bool = True) -> str | None:
        """The same for a path with `/`. What is said of the file that a link leads to holds for the link."""
        on_disk = on_disk and (file.startswith("/") or ":" in file)  # else a buffer without a file
        paths = dict.fromkeys((file, os.path.realpath(file).replace("\\", "/"))) if on_disk else (file,)
        glob = _first(ignored_by(path, settings.disabled_globs) for path in paths)
        if glob is not None:
            return f"the file matches {glob}, which is never sent (midfill.disabledGlobs)"
        if not on_disk:
            return None
        inside = any(PurePosixPath(file).is_relative_to(folder) for folder in folders)
        if folders and not inside and not settings.outside_workspace:
            return "the file is outside of the folders that are open (midfill.outsideWorkspace)"
        if allowed_by(file, settings.disabled_globs):
            return None
        ignoring = _first(self._ignore_files.ignoring(path, folders) for path in paths)
        if ignoring is not None:
            return f"{ignoring} names the file; a pattern with ! in midfill.disabledGlobs allows it"
        return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((item for item in found if item is not None), None)


def _content_refusal(request: Snapshot) -> str | None:
    if request.size > LARGEST_CHARS:
        return f"the file is larger than {LARGEST_CHARS // 1_000_000} million characters"
    near = request.before[-_LINES_LOOKED_AT:] + request.after[:_LINES_LOOKED_AT]
    if "\0" in near:
        return "the file is binary"
    if len(near) > _LONGEST_LINE and max(map(len, near.splitlines())) > _LONGEST_LINE:
        return f"the file is minified or data: a line is longer than {_LONGEST_LINE} characters"
    return None
