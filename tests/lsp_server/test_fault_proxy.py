"""Whatever happens between language server and service: never an LSP error, never stuck, back by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tests.lsp_server.fault_proxy import Fault, FaultProxy
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.scripted_service import ScriptedService, event
from tests.lsp_server.session import AUTOMATIC, INVOKED, Session

_GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda data: b"data: " + data + b"\n\n"),
    st.sampled_from(
        [
            b"data: {}\n\ndata: [DONE]\n\n",
            b'data: {"id": null, "choices": [{"text": 5, "finish_reason": {}}]}\n\ndata: [DONE]\n\n',
            b'data: {"id": "x", "choices": [{"text": "a"}], "midfill": []}\n\n',
            b"data: [DONE]\n\n",
            b"data: null\n\n",
            event(1, "half"),
            event(1, "whole", "stop") * 2,
        ]
    ),
)
FAULTS = st.one_of(
    st.just(Fault()),
    st.just(Fault("reset")),
    st.just(Fault("close")),
    st.sampled_from([0.05, 0.2, 3.0]).map(lambda seconds: Fault("delay", seconds)),
    st.integers(0, 400).map(lambda size: Fault("half", size)),
    st.sampled_from([301, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503]).map(
        lambda code: Fault("status", code)
    ),
    st.sampled_from(["0", "1", "x", "-3", "nan", "Wed, 21 Oct 2015 07:28:00 GMT"]).map(
        lambda wait: Fault("status", 503, headers=(f"Retry-After: {wait}",))
    ),
    _GARBAGE.map(lambda content: Fault("garbage", content=content)),
    st.just(Fault("loris")),
)


@pytest.fixture(scope="module")
def bystander(server_env: dict[str, str]) -> Iterator[Session]:
    """A server that lives through all of it."""
    with Session.start(env=server_env) as session:
        session.initialize(endpoint="http://127.0.0.1:1")
        session.open("file:///project/a.py", "x = \n")
        yield session


def go_through(session: Session, faults: list[tuple[Fault, bool]]) -> None:
    """Each fault with one request, some of which are cancelled by the editor; then all has to be well again."""
    service = ScriptedService()
    service.answer("fi", "ne")
    proxy = FaultProxy(service.port)
    try:
        session.messages.clear()
        session.configure(endpoint=proxy.url, debounceMs=0, requestTimeoutMs=800, minConfidence=0)
        proxy.faults.extend(fault for fault, _ in faults)
        for index, (_, cancelled) in enumerate(faults):
            session.insert("file:///project/a.py", 0, 4 + index, "y")
            kind = INVOKED if index % 2 else AUTOMATIC
            asked = session.ask("file:///project/a.py", 0, 5 + index, kind)
            if cancelled:
                session.cancel(asked)
                session.request("workspace/executeCommand", {"command": "midfill.showLog"})
            else:
                assert isinstance(session.wait(asked)["items"], list)
        proxy.faults.clear()
        deadline = time.monotonic() + PATIENT_S
        while not session.complete("file:///project/a.py", 0, 4 + len(faults)):
            assert time.monotonic() < deadline, "it did not recover"
            time.sleep(0.05)
        assert session.notifications("window/showMessage") == []
        last = session.notifications("didChangeStatus")[-1:]
        assert last in ([], [{"busy": False, "message": "", "kind": "Normal"}])
    finally:
        source = "x = \n"
        change = {
            "textDocument": {"uri": "file:///project/a.py", "version": 1000},
            "contentChanges": [{"text": source}],
        }
        session.notify("textDocument/didChange", change)
        proxy.stop()
        service.stop()


_RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@limits(max_examples=15, deadline=None, suppress_health_check=_RELAXED)
@given(st.lists(st.tuples(FAULTS, st.booleans()), max_size=4))
def test_faults(bystander: Session, faults: list[tuple[Fault, bool]]) -> None:
    go_through(bystander, faults)


@pytest.mark.full
@pytest.mark.timeout(1800)
@limits(max_examples=200, deadline=None, suppress_health_check=_RELAXED)
@given(st.lists(st.tuples(FAULTS, st.booleans()), max_size=7))
def test_many_faults(bystander: Session, faults: list[tuple[Fault, bool]]) -> None:
    go_through(bystander, faults)


def test_slow_loris_is_given_up(bystander: Session) -> None:
    go_through(bystander, [(Fault("loris"), False), (Fault("loris"), True)])


def test_an_outage_is_told_once(bystander: Session, service: ScriptedService) -> None:
    proxy = FaultProxy(service.port)
    bystander.messages.clear()
    bystander.configure(endpoint=proxy.url, debounceMs=0, requestTimeoutMs=300)
    proxy.faults.extend([Fault("reset"), Fault("status", 500), Fault("close"), Fault("garbage"), Fault("status", 503)])
    for _ in range(5):
        assert bystander.complete("file:///project/a.py", 0, 4, AUTOMATIC) == []
    told = {s["message"] for s in bystander.notifications("didChangeStatus") if s["kind"] == "Warning"}
    assert len(told) == 1
    proxy.stop()


@pytest.mark.parametrize("failures", [1, 3], ids=["once", "until it is left alone"])
def test_a_service_that_comes_back_is_noticed_without_a_keystroke(bystander: Session, failures: int) -> None:
    gone = ScriptedService()
    port = gone.port
    gone.stop()
    bystander.messages.clear()
    bystander.configure(endpoint=f"http://127.0.0.1:{port}", debounceMs=0)
    for _ in range(failures):
        assert bystander.complete("file:///project/a.py", 0, 4) == []
    bystander.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
    bystander.messages.clear()
    back = ScriptedService(port)
    bystander.wait_notification("didChangeStatus", lambda s: s["kind"] == "Normal")
    assert back.completions == []
    assert bystander.complete("file:///project/a.py", 0, 4) != []
    back.stop()
