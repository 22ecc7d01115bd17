"""The fallback for editors without inline completion: one item in their completion popup."""

from __future__ import annotations

import re

from lsprotocol import types

from lsp_server.answers import ACCEPTED
from lsp_server.completer import Answer
from lsp_server.documents import Document, Snapshot

LONGEST_WAIT_S = 0.5
"""Editors wait for every server before they show the popup: rather no item than a popup that is late."""

_LABEL_CHARS = 60


def to_popup(answer: Answer | None, request: Snapshot, document: Document | None) -> types.CompletionList:
    """One item that extends the word at the cursor, below all others; or none. To be asked again while typing."""
    if answer is None or document is None:
        return types.CompletionList(is_incomplete=True, items=[])
    cursor = len(document.source) - len(request.after)
    typed = re.search(r"\w*\Z", document.source[:cursor])
    word = typed[0] if typed else ""
    text = word + answer.text
    place = types.Range(
        document.client_position_at_offset(cursor - len(word)),
        document.client_position_at_offset(cursor + answer.replaces),
    )
    label = text.strip().partition("\n")[0]
    item = types.CompletionItem(
        label=label if len(label) <= _LABEL_CHARS else f"{label[: _LABEL_CHARS - 1]}…",
        kind=types.CompletionItemKind.Text,
        detail="Midfill",
        documentation=types.MarkupContent(types.MarkupKind.Markdown, f"```{request.language}\n{text}\n```"),
        preselect=False,
        sort_text="\uffff",
        filter_text=word or None,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(place, text),
        command=types.Command(title="Completion accepted", command=ACCEPTED, arguments=[answer.completion_id]),
    )
    return types.CompletionList(is_incomplete=True, items=[item])
