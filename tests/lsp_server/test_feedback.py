"""What editors report reaches the service, as ids and counts."""

from __future__ import annotations

from tests.lsp_server.conftest import Editor


def test_shown_partially_accepted_and_accepted_are_reported(editor: Editor) -> None:
    editor.open("x = ║\n")
    item = editor.items()[0]
    session = editor.session
    session.notify("textDocument/didShowCompletion", {"item": item})
    session.notify("textDocument/didShowCompletion", {"item": item})
    session.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 2})
    assert session.command("midfill.accepted", *item["command"]["arguments"]) is None
    editor.service.wait(lambda: len(editor.service.events) >= 3)
    assert sorted(editor.service.events, key=lambda e: e["event"]) == [
        {"completion_id": "cmpl-1", "event": "accepted", "accepted_chars": 4},
        {"completion_id": "cmpl-1", "event": "partially_accepted", "accepted_chars": 2},
        {"completion_id": "cmpl-1", "event": "shown"},
    ]


def test_incomplete_reports_are_ignored(editor: Editor) -> None:
    editor.session.notify("textDocument/didShowCompletion", {"item": {"insertText": "x"}})
    editor.session.notify("textDocument/didPartiallyAcceptCompletion", {})
    editor.session.command("midfill.accepted")
    editor.open("x = ║\n")
    assert editor.texts() == ["pass"]
    assert editor.service.events == []
    assert editor.session.notifications("window/showMessage") == []


def test_focus_opens_the_connection_in_advance(editor: Editor) -> None:
    editor.session.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///a.py"}})
    editor.service.wait(lambda: [c.path for c in editor.service.calls] == ["/livez"])
