"""The document mirror, snapshots of it at a request, and the windows of text that are sent.

pygls' own mirror splits lines as `str.splitlines` does (also at form feeds, U+0085, U+2028 …) and moves a
position past the end of a line to one before it, so it drifts from the editor's text. `Document` counts lines
as LSP does: `\\n`, `\\r\\n` and `\\r` only.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
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
_HASH_COMMENTS = ("python", "r", "julia", "ruby", "shellscript", "bash")


class Document(TextDocument):
    """One open text. Offsets are indices into `source` (code points).

    The lengths of the lines are kept up to date with each edit: looking for the line ends of a file of 50,000 lines
    again at each keystroke would block the server for longer than the answer may take.
    """

    # arrays: 50,000 integers as objects are 2 MB
    _lengths: array[int] | None = None
    _starts: array[int] | None = None

    def offset_at_position(self, client_position: types.Position) -> int:
        """Index into `source`; a position past its line's end means the line's end, as LSP defines it."""
        starts = self._line_starts()
        if client_position.line >= len(starts):
            return len(self.source)
        line = self._line(client_position.line)
        return starts[client_position.line] + self._index_in_line(_without_end(line), client_position.character)

    def client_position_at_offset(self, offset: int) -> types.Position:
        """Position of an index into `source`, in the units the client asked for."""
        starts = self._line_starts()
        line = bisect_right(starts, offset) - 1
        text = self.source[starts[line] : offset]
        return types.Position(line, self.position_codec.client_num_units(text))

    def _apply_incremental_change(self, change: types.TextDocumentContentChangePartial) -> None:
        start = self.offset_at_position(change.range.start)
        end = max(start, self.offset_at_position(change.range.end))
        self._replace_lengths(start, end, change.text)
        source = self.source
        self._source = source[:start] + change.text + source[end:]

    def _apply_full_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        super()._apply_full_change(change)
        self._lengths = self._starts = None

    def _replace_lengths(self, start: int, end: int, text: str) -> None:
        """What replacing `start` to `end` does to the lengths; called before it happens."""
        starts, lengths = self._line_starts(), self._lengths
        assert lengths is not None
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, end) - 1
        touched = self.source[starts[first] : start] + text + self.source[end : starts[last] + lengths[last]]
        self._starts = None
        if touched[:1] == "\n" and self.source[: starts[first]].endswith("\r"):
            self._lengths = None  # two line ends become one
            return
        new = _line_lengths(touched)
        # An empty line after the last line end belongs to the line that follows, if there is one.
        lengths[first : last + 1] = new if last == len(lengths) - 1 else new[:-1]

    def _line_starts(self) -> array[int]:
        if self._starts is None:
            if self._lengths is None:
                self._lengths = _line_lengths(self.source)
            self._starts = array("I", accumulate(self._lengths[:-1], initial=0))
        return self._starts

    def _line(self, index: int) -> str:
        starts = self._line_starts()
        assert self._lengths is not None
        return self.source[starts[index] : starts[index] + self._lengths[index]]

    def _index_in_line(self, line: str, character: int) -> int:
        if line.isascii():
            return min(character, len(line))
        units = 0
        for index, char in enumerate(line):
            units += self.position_codec.client_num_units(char)
            if units > character:
                return index
        return len(line)


def _line_lengths(text: str) -> array[int]:
    """The length of each line with its end; the last one has none and may be empty."""
    if text.count("\r") == text.count("\r\n"):
        lengths = array("I", (len(line) + 1 for line in text.split("\n")))
        lengths[-1] -= 1
        return lengths
    ends = [0, *(match.end() for match in _EOL.finditer(text)), len(text)]
    return array("I", (end - start for start, end in pairwise(ends)))


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line.removesuffix("\r")


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

    def open_documents(self) -> dict[str, Document]:
        """All open documents by URI."""
        return {uri: document for uri, document in self.text_documents.items() if isinstance(document, Document)}

    def cells_around(self, document: Document) -> tuple[str, str]:
        """The other cells of the notebook that `document` is a cell of, before and after it; cells in another
        language as comments. Two empty strings for any other document.
        """
        notebook = self.get_notebook_document(cell_uri=document.uri)
        if notebook is None:
            return "", ""
        uris = [unquote(cell.document) for cell in notebook.cells]
        here = uris.index(unquote(document.uri)) if unquote(document.uri) in uris else len(uris)
        above = [self._cell(uri, document.language_id) for uri in uris[:here]]
        below = [self._cell(uri, document.language_id) for uri in uris[here + 1 :]]
        return "".join(f"{text}\n\n" for text in above if text), "".join(f"\n\n{text}" for text in below if text)

    def _cell(self, uri: str, language: str | None) -> str:
        cell = self.open_document(uri)
        text = normalise(cell.source).strip("\n") if cell else ""
        if cell is None or cell.language_id == language or not text:
            return text
        mark = "#" if language in _HASH_COMMENTS else "//"
        return "\n".join(f"{mark} {line}".rstrip() for line in text.split("\n"))


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
    cells_above: str = ""
    cells_below: str = ""

    @cached_property
    def prefix(self) -> str:
        return normalise(self.before)

    @cached_property
    def suffix(self) -> str:
        return normalise(self.after)


def snapshot(
    document: Document, position: types.Position, folders: list[str], cells: tuple[str, str] = ("", "")
) -> Snapshot:
    """The state of `document` with the cursor at `position`; `folders` are the workspace's roots, `cells` the text
    of a notebook before and after it."""
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
        cells_above=cells[0],
        cells_below=cells[1],
    )


def normalise(text: str) -> str:
    """`text` with every line end as `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def typed_since(request: Snapshot, source: str) -> str | None:
    """What was typed at the cursor since `request`, or None if the text changed in any other way."""
    typed = between(source, request.before, request.after)
    return None if typed is None else normalise(typed)


def between(text: str, prefix: str, suffix: str) -> str | None:
    """What stands between `prefix` and `suffix` in `text`; None if `text` does not begin and end with them."""
    if len(text) < len(prefix) + len(suffix) or not text.startswith(prefix) or not text.endswith(suffix):
        return None
    return text[len(prefix) : len(text) - len(suffix)]


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
