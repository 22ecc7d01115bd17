"""Editors without inline completion get one item in their popup; all others are left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import Session
from tests.tries import tries

URI = "file:///project/main.py"


@pytest.fixture
def old_editor(server_env: dict[str, str], service: ScriptedService) -> Iterator[Session]:
    """A server whose client has never heard of inline completion."""
    with Session.start(env=server_env) as session:
        answer = session.initialize(
            capabilities={"textDocument": {}}, endpoint=service.url, debounceMs=0, askAhead=False
        )
        assert answer["capabilities"]["completionProvider"] is not None
        yield session


def popup(session: Session, line: int, character: int) -> dict:
    position = {"line": line, "character": character}
    return session.request("textDocument/completion", {"textDocument": {"uri": URI}, "position": position})


def popup_with_item(session: Session, line: int, character: int) -> dict:
    """The popup once the completion is in it: it comes without where that takes longer than editors like to wait."""
    for _ in tries():
        answer = popup(session, line, character)
        assert answer["isIncomplete"], "to be asked again"
        if answer["items"]:
            break
    return answer


def test_one_item_that_extends_the_word(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(("urn a + b",))
    old_editor.open(URI, "def add(a, b):\n    ret\n")
    [item] = popup_with_item(old_editor, 1, 7)["items"]
    assert item["label"] == "return a + b"
    assert item["filterText"] == "ret"
    assert item["textEdit"] == {
        "range": {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 7}},
        "newText": "return a + b",
    }
    assert "return a + b" in item["documentation"], "plain text for a client that declares nothing else"
    assert item["command"]["arguments"] == [f"cmpl-{len(service.completions)}"]
    assert not item["preselect"]


def test_several_lines_show_the_first_as_label(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(("total = a\n    return total",))
    old_editor.open(URI, "def add(a, b):\n    \n")
    [item] = popup_with_item(old_editor, 1, 4)["items"]
    assert item["label"] == "total = a"
    assert item["textEdit"]["newText"] == "total = a\n    return total"


def test_data_further_up_does_not_hold_up_the_popup(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(("urn a",))
    lines = f"DATA = '{'x' * 200_000}'\n" + "# a line\n" * 3000
    old_editor.open(URI, f"{lines}def f(a):\n    ret\n")
    [item] = popup_with_item(old_editor, 3002, 7)["items"]
    assert item["label"] == "return a"


def test_a_slow_service_does_not_hold_up_the_popup(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(("urn a",), held=threading.Event())
    old_editor.configure(endpoint=service.url, debounceMs=0, requestTimeoutMs=60_000)
    old_editor.open(URI, "def add(a, b):\n    ret\n")
    started = time.monotonic()
    assert popup(old_editor, 1, 7)["items"] == []
    assert time.monotonic() - started < 30
    service.wait(lambda: service.completions[0].gone_after is not None)


def test_a_fault_is_an_empty_popup(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(status=500)
    old_editor.open(URI, "def add(a, b):\n    ret\n")
    assert popup(old_editor, 1, 7)["items"] == []


def test_a_client_with_inline_completion_gets_no_item(server_env: dict[str, str], service: ScriptedService) -> None:
    service.default = Reply(("urn a",))
    with Session.start(env=server_env) as session:
        session.initialize(endpoint=service.url, debounceMs=0)
        session.open(URI, "def add(a, b):\n    ret\n")
        assert popup(session, 1, 7) == {"isIncomplete": False, "items": []}
        assert service.completions == []


def test_nor_does_one_that_asked_for_it_undeclared(old_editor: Session, service: ScriptedService) -> None:
    service.default = Reply(("urn a",))
    old_editor.open(URI, "def add(a, b):\n    ret\n")
    assert old_editor.complete(URI, 1, 7)
    assert popup(old_editor, 1, 7)["items"] == []
