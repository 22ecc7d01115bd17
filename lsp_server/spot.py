"""A place in a document that is completed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lsp_server.documents import Snapshot


@dataclass(frozen=True)
class Spot:
    """Where the cursor of `request` is once `typed` was typed there, or accepted, and the next `replaced` characters
    are gone. Line ends are `\\n`.

    `lead` is text that was assumed to be typed first: what the service wrote comes after it. The last `pending`
    characters of `typed` are a shown completion that is not in the document yet.
    """

    request: Snapshot
    typed: str = ""
    replaced: int = 0
    lead: str = ""
    pending: int = 0

    @cached_property
    def prefix(self) -> str:
        """The text left of the cursor, as far as it is looked at."""
        return self.request.prefix + self.typed

    @cached_property
    def suffix(self) -> str:
        """The text right of the cursor, as far as it is looked at."""
        return self.request.suffix[self.replaced :]

    @property
    def prefix_length(self) -> int:
        """The length of all text left of the cursor."""
        return self.request.above + len(self.prefix)

    @property
    def suffix_length(self) -> int:
        """The length of all text right of the cursor."""
        return len(self.suffix) + self.request.below

    def typed_until(self, later: Spot) -> str | None:
        """What was typed here if the cursor is now at `later`; None if it cannot be. Far from the cursor only lengths
        are compared."""
        count = later.prefix_length - self.prefix_length
        if not 0 <= count <= len(later.prefix) or later.suffix_length != self.suffix_length:
            return None
        before = later.prefix[: len(later.prefix) - count]
        same = before.endswith(self.prefix) or self.prefix.endswith(before)
        if not same or not (later.suffix.startswith(self.suffix) or self.suffix.startswith(later.suffix)):
            return None
        return later.prefix[len(before) :]

    def typed_in(self, source: str) -> str | None:
        """The same for a document that reads `source`; None also while `typed` is not in it."""
        typed = self.request.between(source, self.replaced)
        return typed[len(self.typed) :] if typed is not None and typed.startswith(self.typed) else None

    def awaits_acceptance_in(self, source: str) -> bool:
        """Whether the shown completion may still be accepted, or typed on, in a document that reads `source`."""
        typed = self.request.between(source) if self.pending else None
        given = len(self.typed) - self.pending
        return typed is not None and len(typed) >= given and self.typed.startswith(typed)
