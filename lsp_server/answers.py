"""From an `Answer` to LSP's types."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types

from lsp_server.completer import Answer
from lsp_server.documents import Document, Snapshot

ACCEPTED = "midfill.accepted"


def to_list(answers: Sequence[Answer], request: Snapshot, document: Document | None) -> types.InlineCompletionList:
    """An item for each. Always a list: Neovim keeps the old ghost text when it gets `null`."""
    if document is None:
        return types.InlineCompletionList(items=[])
    # The text right of the cursor is as it was, whatever was typed since: so count from the end.
    cursor = request.cursor_in(document.source)
    items = [
        types.InlineCompletionItem(
            insert_text=answer.text,
            range=types.Range(
                document.client_position_at_offset(cursor),
                document.client_position_at_offset(cursor + answer.replaces),
            ),
            command=types.Command(title="Completion accepted", command=ACCEPTED, arguments=[answer.completion_id]),
        )
        for answer in answers
    ]
    return types.InlineCompletionList(items)
