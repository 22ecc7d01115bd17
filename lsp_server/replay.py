"""Holes in files that exist, filled through all of the language server: what would be shown, and whether it is right.

For tuning filters and thresholds by number. Other files are not sent along, and nothing is asked twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lsp_server.answer_stream import Completion
from lsp_server.cache import Cached
from lsp_server.completer import Completer
from lsp_server.connection import Connection
from lsp_server.documents import Document, snapshot
from lsp_server.journal import Journal
from lsp_server.settings import Settings
from lsp_server.spot import Spot
from lsp_server.status import Status

_SHORTEST = 4  # characters of a line that are worth completing


@dataclass(frozen=True)
class Hole:
    """The rest of a line that is taken out; `before` and `after` are the text around it."""

    before: str
    missing: str
    after: str


@dataclass
class Tally:
    """Of all holes: those for which something was shown, and for which it was the line that stood there; the same of
    what the model wrote before the filters. `cut` counts what each filter changed, `spoilt` those among them that had
    been right and were not any more. `reasons` say why nothing was shown."""

    holes: int = 0
    shown: int = 0
    right: int = 0
    written_right: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    spoilt: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people."""
        rows = [
            f"{self.holes} holes: {_share(self.shown, self.holes)} shown, {_share(self.right, self.shown)} of them "
            f"right; the model wrote {_share(self.written_right, self.holes)} right"
        ]
        rows += [
            f"filter {name}: changed {count}, {self.spoilt[name]} of them right before and not after"
            for name, count in self.cut.most_common()
        ]
        return rows + [f"not shown: {count} because {reason}" for reason, count in self.reasons.most_common()]


def holes_of(text: str, count: int) -> Iterator[Hole]:
    """Up to `count` holes, evenly spread over the lines: after the indentation and within the line, in turn."""
    lines = text.split("\n")
    worthwhile = [index for index, line in enumerate(lines) if len(line.strip()) >= _SHORTEST]
    step = max(1, len(worthwhile) // max(1, count))
    for number, index in enumerate(worthwhile[::step][:count]):
        line = lines[index].rstrip()
        at = len(line) - len(line.lstrip())
        if number % 2:
            at += (len(line) - at) // 2
        before, after = lines[:index], lines[index + 1 :]
        yield Hole("\n".join([*before, line[:at]]), line[at:], "\n".join(["", *after]) if after else "")


async def replay(connection: Connection, settings: Settings, document: Document, count: int, tally: Tally) -> None:
    """Fill the holes of one file and add what came of it to `tally`."""
    journal = Journal(time.time)
    completer = _Listening(connection, Status(lambda state: None), journal, time.monotonic, lambda uri: settings)
    for number, hole in enumerate(holes_of(document.source.replace("\r\n", "\n"), count)):
        # A document of its own: no hole profits from the one before.
        source = hole.before + hole.after
        holed = Document(f"{document.uri}#{number}", source, 0, document.language_id)
        request = snapshot(holed, holed.client_position_at_offset(len(hole.before)), [])
        before = journal.filters.copy()
        completer.wrote = ""
        answer = await completer.complete(request, time.monotonic(), False, lambda text=source: text)  # type: ignore[misc]
        shown = "" if answer is None else answer.text
        well, written_well = (text.partition("\n")[0].rstrip() == hole.missing for text in (shown, completer.wrote))
        changed = set(journal.filters - before)
        tally.holes += 1
        tally.shown += bool(shown)
        tally.right += well
        tally.written_right += written_well
        tally.cut.update(changed)
        tally.spoilt.update(changed if written_well and not well else ())
        if not shown:
            tally.reasons[journal.records()[-1].outcome.partition(" (")[0]] += 1
        completer.closed(request.uri)


class _Listening(Completer):
    """Remembers what the service wrote before the filters."""

    wrote = ""

    def filtered(self, spot: Spot, mode: str, completion: Completion) -> Cached:
        self.wrote = spot.lead + completion.text
        return super().filtered(spot, mode, completion)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"
