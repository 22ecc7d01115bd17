"""Whatever the service does, an editor gets an empty list: no LSP error, no popup."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.lsp_server.conftest import Editor
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.scripted_service import Reply, ScriptedService, event
from tests.lsp_server.session import AUTOMATIC, Session
from tests.tries import tries

HALF = event(1, "half an ")
BROKEN = {
    "not a stream": Reply(raw=b"<html>hello</html>"),
    "not JSON": Reply(raw=b"data: {oops\n\n"),
    "another shape": Reply(raw=b'data: {"id": "x", "choices": []}\n\ndata: [DONE]\n\n'),
    "not UTF-8": Reply(raw=b"data: \xff\xfe\n\n"),
    "half an answer": Reply(raw=HALF),
    "no finish reason": Reply(raw=HALF + b"data: [DONE]\n\n"),
    "error in the stream": Reply(raw=HALF + b'data: {"error": {"message": "out of memory"}}\n\n'),
    "endless": Reply(raw=event(1, "x" * 200_000) * 8),
}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503])
def test_error_status_is_an_empty_list_and_a_sentence_in_the_status(editor: Editor, status: int) -> None:
    editor.service.replies.append(Reply(status=status))
    editor.open("x = ║\n")
    assert editor.items() == []
    said = editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
    assert f"scripted {status}" in said["message"]
    assert editor.session.notifications("window/showMessage") == []


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_broken_answer_is_an_empty_list(editor: Editor, reply: Reply) -> None:
    editor.service.replies.append(reply)
    editor.open("x = ║\n")
    assert editor.items() == []
    assert editor.session.notifications("window/showMessage") == []
    assert editor.texts() == ["pass"], "the next request works"


def test_a_model_that_cannot_fill_in_goes_on_from_what_stands_before_the_cursor(editor: Editor) -> None:
    editor.service.replies.append(Reply(status=400, param="suffix"))
    editor.open("x = ║\ny = 2\n")
    assert editor.texts() == ["pass"]
    editor.open("z = ║\ny = 2\n", "other.py")
    assert editor.texts() == ["pass"]
    assert ["suffix" in call.body for call in editor.service.completions] == [True, False, False]


def test_superseded_is_silent(editor: Editor) -> None:
    editor.service.replies.extend([Reply(status=409), Reply(("half",), finish="superseded")])
    editor.open("x = ║\n")
    assert editor.items() == []
    assert editor.items() == []
    assert all(s["kind"] == "Normal" for s in editor.session.notifications("didChangeStatus"))


@pytest.mark.parametrize("finish", ["length", "deadline"])
def test_partial_but_regular_endings_are_shown(editor: Editor, finish: str) -> None:
    editor.service.answer("a + b", finish=finish)
    editor.open("x = ║\n")
    assert editor.texts() == ["a + b"]


def test_service_that_shuts_down_is_asked_again_later(editor: Editor) -> None:
    editor.service.replies.append(Reply(("ha",), finish="shutdown"))
    editor.open("x = ║\n")
    assert editor.items() == []
    assert editor.texts() == ["pass"]


def test_slow_service_is_given_up_and_its_request_aborted(editor: Editor) -> None:
    editor.configure(requestTimeoutMs=300)
    editor.service.replies.append(Reply(("a", "b"), held=threading.Event(), ahead=1))
    editor.open("x = ║\n")
    assert editor.items() == []
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)
    assert "did not answer within 0.3 s" in editor.why()


def test_failing_service_is_left_alone_and_found_again(editor: Editor) -> None:
    editor.service.default = Reply(status=500)
    asked = 0.0
    for number in tries():
        editor.configure(requestTimeoutMs=60_000 - number)  # other settings: nothing has failed yet
        editor.service.calls.clear()
        editor.open("x = ║\n", f"{number}.py")
        for request in range(6):
            asked = time.monotonic() if request == 2 else asked
            assert editor.items() == []
        if time.monotonic() - asked < 0.75:  # the shortest pause
            break
    assert len(editor.service.completions) == 3, "after three failures the breaker is open"
    editor.service.answer("back")
    deadline = time.monotonic() + PATIENT_S
    while not (found := editor.texts()):
        assert time.monotonic() < deadline, "it was not found again"
        time.sleep(0.05)
    assert found == ["back"]
    assert editor.session.notifications("didChangeStatus")[-1] == {
        "busy": False,
        "message": "",
        "kind": "Normal",
    }


def test_nor_is_it_asked_about_its_model_meanwhile(editor: Editor) -> None:
    editor.service.required_key = "another"
    asked = 0.0
    for number in tries():
        editor.configure(requestTimeoutMs=50_000 - number)  # other settings: nothing has failed yet
        editor.service.calls.clear()
        editor.open("x = ║\n", f"{number}.py")
        for request in range(10):
            asked = time.monotonic() if request == 2 else asked
            assert editor.items(AUTOMATIC) == []
        if time.monotonic() - asked < 0.75:  # the shortest pause
            break
    assert len([call for call in editor.service.calls if call.path == "/info"]) <= 4  # at opening, and three times


def test_retry_after_is_respected(editor: Editor) -> None:
    editor.service.replies.append(Reply(status=503, headers={"Retry-After": "20"}))
    editor.open("x = ║\n")
    assert editor.items() == []
    assert editor.items() == []
    assert len(editor.service.completions) == 1


def test_no_service_there(editor: Editor) -> None:
    gone = ScriptedService()
    gone.stop()
    editor.configure(endpoint=gone.url)
    editor.open("x = ║\n")
    assert editor.items() == []
    said = editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
    assert "midfill.endpoint" in said["message"]


def test_a_start_without_the_service_is_told_before_a_key_and_so_is_its_coming(server_env: dict[str, str]) -> None:
    gone = ScriptedService()
    port = gone.port
    gone.stop()
    with Session.start(env=server_env) as session:
        session.initialize(endpoint=f"http://127.0.0.1:{port}")
        session.open("file:///project/a.py", "x = \n")
        session.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///project/a.py"}})
        said = session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
        assert said["message"].startswith(f"no service answers at http://127.0.0.1:{port}")
        session.messages.clear()
        back = ScriptedService(port)
        session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Normal" and not s["busy"])
        assert session.complete("file:///project/a.py", 0, 4)[0]["insertText"] == "pass"
        assert session.notifications("window/showMessage") == []
    back.stop()


def test_the_next_service_stands_in_from_the_start(server_env: dict[str, str], service: ScriptedService) -> None:
    with Session.start(env=server_env) as session:
        session.initialize(endpoint="http://127.0.0.1:1", fallbackEndpoints=[service.url], debounceMs=0)
        session.open("file:///project/a.py", "x = \n")
        session.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///project/a.py"}})
        assert session.complete("file:///project/a.py", 0, 4)[0]["insertText"] == "pass"
        said = session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
        assert said["message"].endswith(f"; {service.url} does instead")


def test_another_service_chosen_during_an_answer_is_no_error(editor: Editor, state_home: Path) -> None:
    log = state_home / "midfill" / "lsp.log"
    before = len(log.read_text())
    editor.service.replies.append(Reply(("half ", "an answer"), held=threading.Event(), ahead=1))
    editor.open("x = ║\n")
    request = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    another = ScriptedService()
    editor.configure(endpoint=another.url)
    assert editor.session.wait(request) == {"items": []}
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)
    assert editor.texts() == ["pass"]
    another.stop()
    assert " ERROR " not in log.read_text()[before:]


def test_logs_hold_neither_code_nor_key(editor: Editor, state_home) -> None:
    editor.configure(token="sk-very-secret")
    editor.service.replies.append(Reply(raw=event(1, "ANSWER_TEXT")))
    editor.open("DOCUMENT_TEXT = ║\n")
    editor.items()
    report = editor.session.command("midfill.doctor")
    log = (state_home / "midfill" / "lsp.log").read_text()
    assert "broke off" in log
    for text in (log, report, str(editor.session.messages)):
        assert not any(secret in text for secret in ("sk-very-secret", "ANSWER_TEXT", "DOCUMENT_TEXT"))
    assert editor.service.completions[0].headers["authorization"] == "bearer sk-very-secret"
