"""What editors report reaches the service, as ids and counts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lsp_server.documents import Snapshot
from lsp_server.feedback import SEEN_S, Feedback
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import AUTOMATIC, Session
from tests.tries import tries


def test_shown_partially_accepted_and_accepted_are_reported(editor: Editor) -> None:
    editor.service.first_number = 7001
    editor.open("x = ║\n")
    item = editor.items()[0]
    session = editor.session
    session.notify("textDocument/didShowCompletion", {"item": item})
    session.notify("textDocument/didShowCompletion", {"item": item})
    session.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 2})
    assert session.command("midfill.accepted", *item["command"]["arguments"]) is None
    editor.service.wait(lambda: len(editor.service.events) >= 3)
    assert sorted(editor.service.events, key=lambda e: e["event"]) == [
        {"completion_id": "cmpl-7001", "event": "accepted", "accepted_chars": 4},
        {"completion_id": "cmpl-7001", "event": "partially_accepted", "accepted_chars": 2},
        {"completion_id": "cmpl-7001", "event": "shown"},
    ]


def test_what_is_accepted_word_by_word_adds_up_to_the_whole(editor: Editor) -> None:
    editor.service.first_number = 7101
    editor.service.answer("urn a + b")
    editor.open("def add(a, b):\n    ret║\n")
    for word in ("urn", " a"):
        [item] = editor.items(AUTOMATIC)
        part = {"item": item, "acceptedLength": len(word)}
        editor.session.notify("textDocument/didPartiallyAcceptCompletion", part)
        editor.type(word)
    [item] = editor.items(AUTOMATIC)
    assert item["insertText"] == " + b"
    editor.session.command("midfill.accepted", *item["command"]["arguments"])
    editor.service.wait(lambda: len(editor.service.events) >= 3)
    accepted = [(event["event"], event.get("accepted_chars")) for event in editor.service.events]
    assert sorted(accepted, key=str) == [("accepted", 9), ("partially_accepted", 3), ("partially_accepted", 5)]


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


def test_switched_off_nothing_is_reported(editor: Editor) -> None:
    editor.configure(feedback=False)
    editor.open("x = ║\n")
    item = editor.items()[0]
    editor.session.notify("textDocument/didShowCompletion", {"item": item})
    editor.session.command("midfill.accepted", *item["command"]["arguments"])
    assert editor.texts() == ["pass"]
    assert editor.service.events == []


class SilentEditor(Editor):
    """A client that never says what it does with completions."""

    def show(self) -> str:
        """A completion stands there for a while; its text."""
        [text] = self.texts(AUTOMATIC)
        self.service.wait(lambda: self.service.events)
        assert [e["event"] for e in self.service.events] == ["shown"]
        return str(text)

    def told(self, *events: str) -> list[dict[str, Any]]:
        """The reports, once there are as many as `events`, which they have to be."""
        self.service.wait(lambda: len(self.service.events) >= len(events))
        time.sleep(0.1)
        assert [e["event"] for e in self.service.events] == list(events)
        return self.service.events


@pytest.fixture
def silent(server_env: dict[str, str], service: ScriptedService) -> Iterator[SilentEditor]:
    with Session.start(env=server_env) as session:
        session.initialize(endpoint=service.url, debounceMs=0, askAhead=False)
        service.answer("urn a + b")
        editor = SilentEditor(session, service, "silent")
        editor.open("def add(a, b):\n    ret║\n")
        yield editor


def test_a_completion_that_arrives_in_one_edit_was_accepted(silent: SilentEditor) -> None:
    silent.type(silent.show())
    assert silent.told("shown", "accepted")[1]["accepted_chars"] == 9


def test_its_beginning_in_one_edit_was_accepted_in_part(silent: SilentEditor) -> None:
    silent.show()
    silent.type("urn ")
    assert silent.told("shown", "partially_accepted")[1]["accepted_chars"] == 4


def test_so_are_its_parts_one_after_the_other(silent: SilentEditor) -> None:
    silent.show()
    silent.type("urn ")
    assert silent.texts(AUTOMATIC) == ["a + b"]
    silent.type("a + b")
    events = silent.told("shown", "partially_accepted", "accepted")
    assert [event["accepted_chars"] for event in events[1:]] == [4, 9]


def test_what_is_typed_letter_by_letter_was_not_accepted(silent: SilentEditor) -> None:
    for letter in silent.show():
        silent.type(letter)
    silent.told("shown")


def test_something_else_typed_dismisses_it(silent: SilentEditor) -> None:
    silent.show()
    silent.type("x")
    silent.told("shown", "dismissed")


def test_what_nobody_saw_is_not_reported(silent: SilentEditor) -> None:
    service = silent.service
    for number in tries():
        release = threading.Event()
        service.replies.append(Reply(("urn a + b",), held=release))
        silent.open("def add(a, b):\n    ret║\n", f"{number}.py")
        request = silent.ask(AUTOMATIC)
        service.wait(lambda expected=2 * number + 1: len(service.completions) == expected)
        answered = time.monotonic()
        release.set()
        assert silent.session.wait(request)["items"]
        silent.type("x")
        silent.session.command("midfill.showLog")  # answered, so what was typed has come
        in_time = time.monotonic() - answered < SEEN_S
        silent.texts(AUTOMATIC)
        if in_time:
            break
    gone, stands = (f"cmpl-{len(service.completions) - 1}", f"cmpl-{len(service.completions)}")
    service.wait(lambda: stands in [e["completion_id"] for e in service.events])
    assert gone not in [e["completion_id"] for e in service.events]


class Reports:
    """Takes reports in the place of a client."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def post_event(self, completion_id: str, event: str, accepted_chars: int | None = None) -> None:
        self.events.append(event)


@pytest.mark.parametrize(("later", "persisted"), [("x = total\ny = 2\n", True), ("x = 1\n", False), (None, False)])
async def test_what_is_still_there_later_has_persisted(later: str | None, persisted: bool) -> None:
    reports = Reports()
    feedback = Feedback(lambda: reports, lambda uri: later, lambda uri: True, persisted_s=0.01)  # type: ignore[arg-type, return-value]
    request = Snapshot("u", 1, "python", "f.py", "f.py", "x = ", "\n")
    feedback.offered("cmpl-1", request, "", "total\ny = 2", 0)
    feedback.changed("u", "x = total\ny = 2\n")
    await asyncio.sleep(0.05)
    assert reports.events == ["shown", "accepted", *(["persisted"] if persisted else [])]
