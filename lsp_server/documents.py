"""The document mirror, snapshots of it at a request, and the windows of text that are sent.

pygls' own mirror splits lines as `str.splitlines` does (also at form feeds, U+0085, U+2028 …) and moves a
position past the end of a line to one before it, so it drifts from the editor's text. `Document` counts lines
as LSP does: `\\n`, `\\r\\n` and `\\r` only.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

from lsp_server.line_starts import LineStarts

PREFIX_BUDGET = 8000
SUFFIX_BUDGET = 2000
# The cut of a long prefix moves by whole steps; the search for a line start after it stays below half a step,
# so two different cuts are at least STEP - LINE_SEARCH = 1024 characters apart.
STEP = 2048
LINE_SEARCH = 1024
SEEN_BEFORE, SEEN_AFTER = 64 * 1024, 16 * 1024
"""What of a document a request looks at, in characters on each side: more than the longest windows that are sent."""

_UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
_HASH_COMMENTS = ("python", "r", "julia", "ruby", "shellscript", "bash")


class Document(TextDocument):
    """One open text. Offsets are indices into `source` (code points)."""

    _starts: LineStarts | None = None

    def offset_at_position(self, client_position: types.Position) -> int:
        """Index into `source`; a position past its line's end means the line's end, as LSP defines it."""
        starts = self._line_starts()
        if client_position.line >= len(starts):
            return len(self.source)
        line = self.source[starts[client_position.line] : self._line_end(client_position.line)]
        return starts[client_position.line] + self._index_in_line(_without_end(line), client_position.character)

    def client_position_at_offset(self, offset: int) -> types.Position:
        """Position of an index into `source`, in the units the client asked for."""
        starts = self._line_starts()
        line = starts.line_of(offset)
        text = self.source[starts[line] : offset]
        return types.Position(line, self._units(text))

    def _apply_incremental_change(self, change: types.TextDocumentContentChangePartial) -> None:
        start = self.offset_at_position(change.range.start)
        end = max(start, self.offset_at_position(change.range.end))
        source, starts = self.source, self._line_starts()
        first, last = starts.line_of(start), starts.line_of(end)
        touched = source[starts[first] : start] + change.text + source[end : self._line_end(last)]
        if touched[:1] == "\n" and source[max(0, starts[first] - 1) : starts[first]] == "\r":
            self._starts = None  # two line ends become one
        else:
            starts.replace(first, last, touched, len(change.text) - (end - start))
        self._source = "".join((source[:start], change.text, source[end:]))

    def _apply_full_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        super()._apply_full_change(change)
        self._starts = None

    def _line_starts(self) -> LineStarts:
        if self._starts is None:
            self._starts = LineStarts(self.source)
        return self._starts

    def _line_end(self, line: int) -> int:
        starts = self._line_starts()
        return starts[line + 1] if line + 1 < len(starts) else len(self.source)

    def _index_in_line(self, line: str, character: int) -> int:
        if line.isascii():
            return min(character, len(line))
        return bisect_right(range(len(line)), character, key=lambda index: self._units(line[: index + 1]))

    def _units(self, text: str) -> int:
        """The length of `text` as the client counts it. By encoding it: pygls looks at each character, which in a line
        of a megabyte takes most of a second."""
        if text.isascii():
            return len(text)
        codec, size = _UNITS.get(self.position_codec.encoding or "", _UNITS["utf-16"])
        return len(text.encode(codec, "surrogatepass")) // size


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
        """All open documents by their own URI; pygls' keys have lost their percent signs."""
        return {found.uri: found for found in self.text_documents.values() if isinstance(found, Document)}

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
    """A document as it was around the cursor when a completion was asked for.

    `before` and `after` are the raw text around the cursor, as far as anybody looks: a copy of all of a large file for
    each keystroke would cost more time and memory than everything else. `start` characters of the document lie before
    `before` and `rest` after `after`. What is sent, cached and shown is `prefix` and `suffix`, with every line end as
    `\\n`: models are trained on that, and editors turn it back themselves. `above` and `below` are `start` and `rest`
    counted that way.
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
    start: int = 0
    rest: int = 0
    above: int = 0
    below: int = 0

    @cached_property
    def prefix(self) -> str:
        return normalise(self.before)

    @cached_property
    def suffix(self) -> str:
        return normalise(self.after)

    @property
    def size(self) -> int:
        """The length of the document."""
        return self.start + len(self.before) + len(self.after) + self.rest

    def cursor_in(self, source: str) -> int:
        """Where the cursor is by now if something was typed at it: the text right of it is as it was."""
        return len(source) - len(self.after) - self.rest

    def between(self, source: str, dropped: int = 0) -> str | None:
        """What stands in `source` where the cursor was, line ends as `\\n`; None if the document was changed in any
        other way. The first `dropped` characters right of the cursor are taken to be gone.

        Far from the cursor only lengths are compared.
        """
        begin, end = self.start + len(self.before), self.cursor_in(source) + dropped
        if begin > end or not source.startswith(self.before, self.start):
            return None
        return normalise(source[begin:end]) if source.startswith(self.after[dropped:], end) else None


def snapshot(
    document: Document, position: types.Position, folders: list[str], cells: tuple[str, str] = ("", "")
) -> Snapshot:
    """The state of `document` with the cursor at `position`; `folders` are the workspace's roots, `cells` the text
    of a notebook before and after it."""
    source, offset = document.source, document.offset_at_position(position)
    file = file_of(document.uri)
    start, stop = max(0, offset - SEEN_BEFORE), min(len(source), offset + SEEN_AFTER)
    # A line end stays in one piece.
    start -= source[start - 1 : start + 1] == "\r\n"
    stop += source[stop - 1 : stop + 1] == "\r\n"
    return Snapshot(
        uri=document.uri,
        version=document.version,
        language=document.language_id or "",
        file=file,
        path=relative_path(file, folders),
        before=source[start:offset],
        after=source[offset:stop],
        cells_above=cells[0],
        cells_below=cells[1],
        start=start,
        rest=len(source) - stop,
        above=start - _pairs(source, 0, start),
        below=len(source) - stop - _pairs(source, stop, len(source)),
    )


def _pairs(source: str, start: int, stop: int) -> int:
    """The line ends of two characters within a range. To find that there are none is twenty times as fast."""
    return source.count("\r\n", start, stop) if source.find("\r", start, stop) >= 0 else 0


def normalise(text: str) -> str:
    """`text` with every line end as `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def window_prefix(prefix: str, budget: int = PREFIX_BUDGET, above: int = 0) -> str:
    """The end of `prefix` that is sent: at most `budget` characters, beginning at a line where there is one; `above`
    characters stand before `prefix`.

    The beginning stays where it is while the prefix grows, for at least 1024 characters: a service can only
    reuse what it computed for the previous keystroke if the beginning of the prompt is the same.
    """
    if len(prefix) <= budget:
        return prefix
    cut = -(-(above + len(prefix) - budget) // STEP) * STEP - above
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
    if not parts.path.startswith("/"):
        return unquote(parts.path)
    # In Windows a cell lies in the same `c:/…` as its notebook.
    file = uri if parts.scheme == "file" else f"file://{parts.path}"
    return (to_fs_path(file) or unquote(parts.path)).replace("\\", "/")


def relative_path(file: str, folders: list[str]) -> str:
    """`file` relative to the innermost of `folders`, else its bare name: a user's name stays here."""
    for folder in sorted((f.replace("\\", "/") for f in folders), key=len, reverse=True):
        try:
            return PurePosixPath(file).relative_to(folder).as_posix()
        except ValueError:
            continue
    return PurePosixPath(file).name
