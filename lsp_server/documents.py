"""The document mirror, snapshots of it at a request, and the windows of text that are sent.

pygls' own mirror splits lines as `str.splitlines` does (also at form feeds, U+0085, U+2028 …) and moves a
position past the end of a line to one before it, so it drifts from the editor's text. `Document` counts lines
as LSP does: `\\n`, `\\r\\n` and `\\r` only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

PREFIX_BUDGET = 8000
SUFFIX_BUDGET = 2000
# The cut of a long prefix moves by whole steps; the search for a line start after it stays below half a step,
# so two different cuts are at least STEP - LINE_SEARCH = 1024 characters apart.
STEP = 2048
LINE_SEARCH = 1024

_EOL = re.compile(r"\r\n|\n|\r")


class Document(TextDocument):
    """One open text. Offsets are indices into `source` (code points)."""

    def offset_at_position(self, client_position: types.Position) -> int:
        """Index into `source`; a position past its line's end means the line's end, as LSP defines it."""
        starts, ends = self._line_bounds()
        if client_position.line >= len(starts):
            return len(self.source)
        start, end = starts[client_position.line], ends[client_position.line]
        return start + self._index_in_line(self.source[start:end], client_position.character)

    def client_position_at_offset(self, offset: int) -> types.Position:
        """Position of an index into `source`, in the units the client asked for."""
        starts, _ = self._line_bounds()
        line = 0
        low, high = 0, len(starts) - 1
        while low <= high:
            middle = (low + high) // 2
            if starts[middle] <= offset:
                line, low = middle, middle + 1
            else:
                high = middle - 1
        text = self.source[starts[line] : offset]
        return types.Position(line, self.position_codec.client_num_units(text))

    def _apply_incremental_change(self, change: types.TextDocumentContentChangePartial) -> None:
        start = self.offset_at_position(change.range.start)
        end = self.offset_at_position(change.range.end)
        source = self.source
        self._source = source[:start] + change.text + source[max(start, end) :]

    def _line_bounds(self) -> tuple[list[int], list[int]]:
        starts, ends = [0], []
        for match in _EOL.finditer(self.source):
            ends.append(match.start())
            starts.append(match.end())
        ends.append(len(self.source))
        return starts, ends

    def _index_in_line(self, line: str, character: int) -> int:
        if line.isascii():
            return min(character, len(line))
        units = 0
        for index, char in enumerate(line):
            units += self.position_codec.client_num_units(char)
            if units > character:
                return index
        return len(line)


class Mirror(Workspace):
    """pygls' workspace, holding `Document`s."""

    def _create_text_document(
        self,
        doc_uri: str,
        source: str | None = None,
        version: int | None = None,
        language_id: str | None = None,
    ) -> Document:
        return Document(
            doc_uri,
            source=source,
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self._position_codec,
        )

    def open_document(self, uri: str) -> Document | None:
        """The open document, or None: never a file read from disk behind the editor's back."""
        document = self.text_documents.get(unquote(uri))
        return document if isinstance(document, Document) else None


@dataclass(frozen=True)
class Snapshot:
    """A document as it was when a completion was asked for.

    `before` and `after` are the raw text around the cursor. What is sent, cached and shown is `prefix` and
    `suffix`, with every line end as `\\n`: models are trained on that, and editors turn it back themselves.
    """

    uri: str
    version: int | None
    language: str
    file: str
    path: str
    before: str
    after: str

    @property
    def prefix(self) -> str:
        return normalise(self.before)

    @property
    def suffix(self) -> str:
        return normalise(self.after)


def snapshot(document: Document, position: types.Position, folders: list[str]) -> Snapshot:
    """The state of `document` with the cursor at `position`; `folders` are the workspace's roots."""
    offset = document.offset_at_position(position)
    file = file_of(document.uri)
    return Snapshot(
        uri=document.uri,
        version=document.version,
        language=document.language_id or "",
        file=file,
        path=relative_path(file, folders),
        before=document.source[:offset],
        after=document.source[offset:],
    )


def normalise(text: str) -> str:
    """`text` with every line end as `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def typed_since(request: Snapshot, source: str) -> str | None:
    """What was typed at the cursor since `request`, or None if the text changed in any other way."""
    if len(source) < len(request.before) + len(request.after):
        return None
    if not source.startswith(request.before) or not source.endswith(request.after):
        return None
    return normalise(source[len(request.before) : len(source) - len(request.after)])


def window_prefix(prefix: str, budget: int = PREFIX_BUDGET) -> str:
    """The end of `prefix` that is sent: at most `budget` characters, beginning at a line where there is one.

    The beginning stays where it is while the prefix grows, for at least 1024 characters: a service can only
    reuse what it computed for the previous keystroke if the beginning of the prompt is the same.
    """
    if len(prefix) <= budget:
        return prefix
    cut = -(-(len(prefix) - budget) // STEP) * STEP
    newline = prefix.find("\n", cut - 1, cut + LINE_SEARCH - 1)
    return prefix[newline + 1 :] if newline >= 0 else prefix[cut:]


def window_suffix(suffix: str, budget: int = SUFFIX_BUDGET) -> str:
    """The beginning of `suffix` that is sent: at most `budget` characters, whole lines if possible."""
    if len(suffix) <= budget:
        return suffix
    newline = suffix.rfind("\n", 0, budget)
    return suffix[: newline + 1] if newline >= 0 else suffix[:budget]


def file_of(uri: str) -> str:
    """The path in a URI with `/` as separator: of a file, of an untitled buffer its name, of a notebook cell
    the notebook."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return (to_fs_path(uri) or unquote(parts.path)).replace("\\", "/")
    return unquote(parts.path)


def relative_path(file: str, folders: list[str]) -> str:
    """`file` relative to the innermost of `folders`, else its bare name: a user's name stays here."""
    for folder in sorted((f.replace("\\", "/") for f in folders), key=len, reverse=True):
        try:
            return PurePosixPath(file).relative_to(folder).as_posix()
        except ValueError:
            continue
    return PurePosixPath(file).name
