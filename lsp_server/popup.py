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
_WORD_CHARS = 100


def to_popup(
    answer: Answer | None,
    request: Snapshot,
    document: Document | None,
    understood: types.ClientCompletionItemOptions | None = None,
) -> types.CompletionList:
    """One item that extends the word at the cursor, below all others; or none. To be asked again while typing.

    It holds nothing but what the client says is `understood`.
    """
    if answer is None or document is None:
        return types.CompletionList(is_incomplete=True, items=[])
    cursor = request.cursor_in(document.source)
    # Not in all of the text: the search takes the square of the length of the longest word.
    typed = re.search(r"\w*\Z", document.source[max(0, cursor - _WORD_CHARS) : cursor])
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
        documentation=_documentation(text, request.language, understood),
        preselect=False,
        sort_text="\uffff",
        filter_text=word or None,
        insert_text_mode=types.InsertTextMode.AsIs if understood and understood.insert_text_mode_support else None,
        text_edit=types.TextEdit(place, text),
        command=types.Command(title="Completion accepted", command=ACCEPTED, arguments=[answer.completion_id]),
    )
    return types.CompletionList(is_incomplete=True, items=[item])


def _documentation(
    text: str, language: str, understood: types.ClientCompletionItemOptions | None
) -> types.MarkupContent | str:
    formats = (understood.documentation_format if understood else None) or ()
    if types.MarkupKind.Markdown in formats:
        return types.MarkupContent(types.MarkupKind.Markdown, f"```{language}\n{text}\n```")
    return text
