"""Several services in order, and the end of a request that nobody wants any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lsp_server.breaker import CircuitBreaker
from lsp_server.client import ServiceClient
from lsp_server.endpoints import Endpoint
from lsp_server.tokens import Tokens
from tests.lsp_server.conftest import Editor
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.tries import tries


@pytest.fixture
def second() -> Iterator[ScriptedService]:
    service = ScriptedService()
    service.answer("from the second")
    yield service
    service.stop()


def test_the_next_service_answers_within_the_same_request(editor: Editor, second: ScriptedService) -> None:
    editor.configure(fallbackEndpoints=[second.url])
    editor.service.default = Reply(status=503)
    for number in tries():
        # other settings: no service rests any more
        editor.configure(fallbackEndpoints=[second.url], requestTimeoutMs=60_000 - number)
        editor.service.calls.clear()
        editor.open("x = ║\n", f"{number}.py")
        asked = time.monotonic()
        assert editor.texts() == ["from the second"]
        editor.open("y = ║\n", f"other{number}.py")
        assert editor.texts() == ["from the second"]
        if time.monotonic() - asked < 0.75:  # the shortest rest
            break
    assert len(editor.service.completions) == 1, "the first one rests"
    said = editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
    assert "scripted 503" in said["message"] and f"{second.url} does instead" in said["message"]


def test_the_first_is_asked_again_when_it_is_back(editor: Editor, second: ScriptedService) -> None:
    editor.configure(fallbackEndpoints=[second.url])
    editor.service.replies.append(Reply(status=503))
    editor.open("x = ║\n")
    assert editor.texts() == ["from the second"]
    deadline = time.monotonic() + PATIENT_S
    number = 0
    while editor.texts() != ["pass"]:
        assert time.monotonic() < deadline
        number += 1
        editor.open(f"y{number} = ║\n", f"{number}.py")
        time.sleep(0.1)
    assert editor.session.notifications("didChangeStatus")[-1]["kind"] == "Normal"


def test_a_request_that_is_too_large_is_not_tried_elsewhere(editor: Editor, second: ScriptedService) -> None:
    editor.configure(fallbackEndpoints=[second.url])
    editor.service.replies.append(Reply(status=413))
    editor.open("x = ║\n")
    assert editor.texts() == []
    assert second.completions == []


def test_half_an_answer_is_not_completed_by_another_service(editor: Editor, second: ScriptedService) -> None:
    editor.configure(fallbackEndpoints=[second.url])
    editor.service.replies.append(Reply(("half", " an", " answer"), finish="shutdown"))
    editor.open("x = ║\n")
    assert editor.texts() == []


def test_all_down(editor: Editor, second: ScriptedService) -> None:
    editor.configure(fallbackEndpoints=[second.url])
    editor.service.default = second.default = Reply(status=500)
    editor.open("x = ║\n")
    for _ in tries():
        assert editor.texts() == []
        if "next attempt in" in editor.why():
            break
    second.answer("back")
    deadline = time.monotonic() + PATIENT_S
    while editor.texts() != ["back"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cancelling_tells_the_service_explicitly_too(editor: Editor) -> None:
    editor.service.answer("a", "b", held=threading.Event(), ahead=1)
    editor.open("x = ║\n")
    asked = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()  # its first piece has come, and with it the id
    editor.session.cancel(asked)
    editor.service.wait(lambda: any(call.method == "DELETE" for call in editor.service.calls))
    deleted = next(call for call in editor.service.calls if call.method == "DELETE")
    assert deleted.path == "/v1/completions/cmpl-1"
    session = editor.service.completions[0].headers["x-midfill-session"]
    assert deleted.headers["x-midfill-session"] == session, "a balancer sends it to the replica that computes"
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)


def test_a_slow_service_is_told() -> None:
    endpoint = Endpoint(ServiceClient("http://127.0.0.1:1", Tokens.fixed(""), 5000), CircuitBreaker(lambda: 0.0))
    endpoint.took_s.extend([4.0] * 9)
    assert endpoint.slow is None, "not after a few"
    endpoint.took_s.append(4.0)
    assert "took 4.0 s on average" in str(endpoint.slow)
    endpoint.took_s.extend([0.1] * 5)
    assert endpoint.slow is None
