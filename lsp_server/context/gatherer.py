"""Context, made ready while nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from lsp_server.client import ContextFile
from lsp_server.context.imports import Import, imports_of
from lsp_server.context.signatures import headings, python_pieces, python_signature
from lsp_server.context.windows import Window, similarity, windows_of, words_of
from lsp_server.documents import Document, Snapshot, file_of, normalise, relative_path

LIMIT_S = 0.02
"""The longest that a request waits for its context."""

_SLICE_S = 0.004
_MOST_FILES = 20
_LARGEST = 200_000
_QUERY_CHARS = 3000
_ALIKE, _SAME = 0.06, 0.9  # worth sending; not worth sending twice
_TOO_ALIKE = 0.5  # the model sees it already
_EDITS_S = 600.0
_EDIT_LINES = 6
T = TypeVar("T")


@dataclass
class _Prepared:
    version: int | None = None
    windows: list[Window] = field(default_factory=list)


@dataclass(frozen=True)
class _Edit:
    uri: str
    line: int
    at: float


class Gatherer:
    """Follows focus and edits. `allowed(file)` says whether anything of a file may be sent at all.

    `documents()` are the open ones by URI, `folders()` the workspace's roots: nothing outside them is used. `clock`
    returns seconds. `budget_chars` is the longest context.
    """

    def __init__(
        self,
        documents: Callable[[], dict[str, Document]],
        folders: Callable[[], list[str]],
        allowed: Callable[[str], bool],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget_chars = 0
        self._documents = documents
        self._folders = folders
        self._allowed = allowed
        self._clock = clock
        self._recent: OrderedDict[str, _Prepared] = OrderedDict()
        self._signatures: dict[str, list[tuple[str, ContextFile]]] = {}  # each with its file
        self._edits: deque[_Edit] = deque(maxlen=32)
        self._preparing: asyncio.Task[None] | None = None

    def used(self, uri: str) -> None:
        """A document was opened or got the focus."""
        self._recent[uri] = self._recent.pop(uri, _Prepared())
        while len(self._recent) > _MOST_FILES:
            self._recent.popitem(last=False)

    def edited(self, uri: str, line: int) -> None:
        """A document was changed around `line`."""
        if self._edits and self._edits[-1].uri == uri and abs(self._edits[-1].line - line) <= _EDIT_LINES:
            self._edits.pop()
        self._edits.append(_Edit(uri, line, self._clock()))
        if next(reversed(self._recent), None) != uri:
            self.used(uri)

    def closed(self, uri: str) -> None:
        """A document was closed."""
        self._recent.pop(uri, None)
        self._signatures.pop(uri, None)
        self._edits = deque((edit for edit in self._edits if edit.uri != uri), maxlen=32)

    def prepare(self, uri: str) -> asyncio.Task[None]:
        """Do the slow part for `uri` in slices of a few milliseconds; a preparation in progress is dropped."""
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.ensure_future(self._prepare(uri))
        return self._preparing

    def gather(self, request: Snapshot) -> tuple[ContextFile, ...]:
        """The context of `request` out of what is ready, in 20 ms at most."""
        if self.budget_chars <= 0:
            return ()
        until = self._clock() + LIMIT_S
        query = words_of(request.prefix[-_QUERY_CHARS:] + request.suffix[: _QUERY_CHARS // 3])
        chosen: list[ContextFile] = []
        left = self.budget_chars
        for part in (
            [head for file, head in self._signatures.get(request.uri, ()) if self._may_use(file)],
            self._similar(request, query, until),
            self._recent_edits(request, until),
        ):
            # One kind may take half of what is left: a long list of signatures must not be all.
            share = left - left // 2 if part else 0
            for file in part:
                size = len(file.path) + len(file.text) + 2
                if size <= share and not any(file.text in other.text for other in chosen):
                    chosen.append(file)
                    share -= size
                    left -= size
        return tuple(chosen)

    def _similar(self, request: Snapshot, query: frozenset[str], until: float) -> list[ContextFile]:
        found: list[tuple[float, str, Window]] = []
        for uri, prepared in reversed(self._recent.items()):
            document = self._usable(uri, request.uri)
            if document is None:
                continue
            best = max(((similarity(query, w.words), -w.start, w) for w in prepared.windows), default=None)
            if best is not None and _ALIKE <= best[0] <= _TOO_ALIKE:
                path = self._path(uri)
                if all(similarity(best[2].words, other.words) <= _SAME for _, _, other in found):
                    found.append((best[0], path, best[2]))
            if self._clock() > until:
                break
        best_first = sorted(found, key=lambda item: -item[0])[:4]
        # The least alike first: what is nearest to the cursor counts most.
        return [ContextFile(path, window.text) for _, path, window in reversed(best_first)]

    def _recent_edits(self, request: Snapshot, until: float) -> list[ContextFile]:
        found: list[ContextFile] = []
        oldest = self._clock() - _EDITS_S
        for edit in reversed(self._edits):
            document = self._usable(edit.uri, request.uri)
            if document is None or edit.at < oldest or len(document.source) > _LARGEST:
                continue
            lines = normalise(document.source).split("\n")
            piece = "\n".join(lines[max(0, edit.line - _EDIT_LINES) : edit.line + _EDIT_LINES + 1]).strip("\n")
            if piece.strip():
                found.append(ContextFile(self._path(edit.uri), piece))
            if len(found) == 2 or self._clock() > until:
                break
        return found[::-1]

    def _usable(self, uri: str, current: str) -> Document | None:
        """An open document of another file than the current one that may be sent and lies within the workspace: the
        cells of a notebook are around each other anyway."""
        document, file = self._documents().get(uri), file_of(uri)
        return document if document is not None and file != file_of(current) and self._may_use(file) else None

    def _may_use(self, file: str) -> bool:
        inside = any(PurePosixPath(file).is_relative_to(folder) for folder in self._folders())
        return inside and self._allowed(file)

    def _path(self, uri: str) -> str:
        return relative_path(file_of(uri), self._folders())

    async def _prepare(self, uri: str) -> None:
        for other in reversed(list(self._recent)):
            document = self._documents().get(other)
            prepared = self._recent.get(other)
            if document is None or prepared is None or prepared.version == document.version:
                continue
            if len(document.source) > _LARGEST or not self._usable(other, ""):
                continue
            version = document.version
            windows = await self._in_slices(windows_of(normalise(document.source)))
            prepared.windows, prepared.version = windows, version
        await self._prepare_signatures(uri)

    async def _prepare_signatures(self, uri: str) -> None:
        document = self._documents().get(uri)
        if document is None or len(document.source) > 10 * _LARGEST:
            return
        found: list[tuple[str, ContextFile]] = []
        folders = self._folders()
        for item in imports_of(document.source, file_of(uri), folders):
            file, text = await self._first_of(item.files)
            if text := await self._signature_of(file, text, item):
                found.append((file, ContextFile(relative_path(file, folders), text)))
        self._signatures[uri] = found

    async def _first_of(self, files: tuple[str, ...]) -> tuple[str, str]:
        """The first of `files` that may be sent and exists, and its text; two empty strings if there is none."""
        usable = [file for file in files if self._may_use(file)]
        for uri, document in self._documents().items():
            if file_of(uri) in usable:
                return file_of(uri), normalise(document.source)
        return await asyncio.to_thread(_read_first, usable, self._folders())

    async def _signature_of(self, file: str, text: str, item: Import) -> str:
        names = set(item.names)
        if not file.endswith((".py", ".pyi")):
            return headings(text, names)
        pieces = (piece for piece in python_pieces(text) if not names or names & set(re.findall(r"\w+", piece[:200])))
        heads = await self._in_slices(python_signature(piece, names) for piece in pieces)
        return "\n".join(head for head in heads if head)

    async def _in_slices(self, items: Iterator[T]) -> list[T]:
        """All of `items`, giving way to requests every few milliseconds."""
        found: list[T] = []
        until = self._clock() + _SLICE_S
        for item in items:
            found.append(item)
            if self._clock() > until:
                await asyncio.sleep(0)
                until = self._clock() + _SLICE_S
        return found


def _read_first(files: list[str], folders: list[str]) -> tuple[str, str]:
    roots = [Path(folder).resolve() for folder in folders]
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            real = Path(file).resolve(strict=True)
            # A link must not lead out of the workspace.
            if any(real.is_relative_to(root) for root in roots) and real.is_file() and real.stat().st_size <= _LARGEST:
                return file, normalise(real.read_text(encoding="utf-8"))
    return "", ""
