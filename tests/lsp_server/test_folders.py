"""Several folders in one editor, each with settings of its own; and an editor that is slow to tell them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lsp_server.configuration import Configuration
from lsp_server.settings import describe
from tests.lsp_server.context.test_context import INVOICE, MAIN, Project
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import AUTOMATIC, Session
from tests.tries import tries

CAPABILITIES = {
    "workspace": {"configuration": True, "workspaceFolders": True},
    "textDocument": {"inlineCompletion": {"dynamicRegistration": False}},
}
PACKAGE_JSON = Path(__file__).parents[2] / "editors" / "vscode" / "package.json"
Start = Callable[..., Session]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


@pytest.fixture
def start(server_env: dict[str, str], service: ScriptedService, folders: tuple[Path, Path]) -> Iterator[Start]:
    """Starts a server in an editor with both folders: the settings of each, and what both have in common."""
    sessions = []

    def start(one: dict[str, Any], two: dict[str, Any], **common: Any) -> Session:
        common = {"endpoint": service.url, "debounceMs": 0, "askAhead": False, **common}
        by_scope = {None: {}, folders[0].as_uri(): one, folders[1].as_uri(): two}
        session = Session.start(env=server_env)
        sessions.append(session)
        session.answers["workspace/configuration"] = lambda params: [
            {**common, **by_scope[item.get("scopeUri")]} for item in params["items"]
        ]
        initialize(session, [folder.as_uri() for folder in folders])
        session.wait_notification("workspace/configuration")
        session.wait_notification("didChangeStatus")
        return session

    yield start
    for session in sessions:
        session.close()


def initialize(session: Session, folders: list[str], **options: Any) -> None:
    params = {
        "processId": os.getpid(),
        "rootUri": folders[0],
        "capabilities": CAPABILITIES,
        "initializationOptions": options,
        "workspaceFolders": [{"uri": uri, "name": uri.rpartition("/")[2]} for uri in folders],
    }
    session.request("initialize", params)
    session.notify("initialized", {})


def opened(session: Session, folder: Path, text: str = "def f(a):\n    ", name: str = "a.py") -> str:
    uri = (folder / name).as_uri()
    session.open(uri, text)
    return uri


def texts(session: Session, request: int) -> list[str]:
    return [item["insertText"] for item in session.wait(request)["items"]]


def test_each_folder_has_its_switches(start: Start, folders: tuple[Path, Path], service: ScriptedService) -> None:
    session = start({"enable": False}, {"mode": "line", "maxTokens": 9})
    one, two = opened(session, folders[0]), opened(session, folders[1])
    assert session.complete(one, 1, 4) == []
    assert session.complete(two, 1, 4)[0]["insertText"] == "pass"
    [call] = service.completions
    assert (call.body["mode"], call.body["max_tokens"], call.body["path"]) == ("line", 9, "a.py")


def test_an_answer_is_cut_by_the_settings_of_its_own_folder(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    """Also when somebody has asked in the other folder since."""
    session = start({"maxLines": 1}, {"maxLines": 12})
    one, two = opened(session, folders[0]), opened(session, folders[1])
    block = "b = a\n    c = b\n    return c"
    release = threading.Event()
    service.replies.extend([Reply((block,), held=release), Reply((block,))])
    waiting = session.ask(one, 1, 4, AUTOMATIC)
    service.wait(lambda: service.completions)
    assert texts(session, session.ask(two, 1, 4, AUTOMATIC)) == [block]
    release.set()
    assert texts(session, waiting) == ["b = a"]


def test_what_comes_next_is_asked_for_only_where_that_is_wanted(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    session = start({"askAhead": False}, {"askAhead": True})
    one, two = opened(session, folders[0], "x = 1\ny = "), opened(session, folders[1], "x = 1\nz = ")
    assert texts(session, session.ask(one, 1, 4, AUTOMATIC)) == ["pass"]
    assert texts(session, session.ask(two, 1, 4, AUTOMATIC)) == ["pass"]
    service.wait(lambda: len(service.completions) == 3)
    time.sleep(0.5)
    assert [call.body["prompt"] for call in service.completions[2:]] == ["x = 1\nz = pass\n"]


def test_files_of_another_folder_are_context_only_as_that_folder_allows(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    service.context_length = 8192
    session = start({}, {"disabledGlobs": ["private/**"]})
    one, two = (Project(folder, session, service) for folder in folders)
    two.open("private/invoices.py", INVOICE)
    two.open("orders.py", INVOICE.replace("invoice", "bill"))
    sent = one.context_at_end(one.open("main.py", MAIN), MAIN)
    assert [file["path"] for file in sent] == ["orders.py"]


@pytest.mark.parametrize("common", [True, False])
def test_reports_are_sent_only_where_that_is_wanted(
    start: Start, folders: tuple[Path, Path], service: ScriptedService, common: bool
) -> None:
    session = start({"feedback": False}, {"feedback": True}, feedback=common)
    ids = []
    for folder in folders:
        [item] = session.complete(opened(session, folder), 1, 4)
        ids += item["command"]["arguments"]
        session.notify("textDocument/didShowCompletion", {"item": item})
    service.wait(lambda: service.events)
    session.command("midfill.accepted", ids[0])
    session.command("midfill.accepted", ids[1])
    service.wait(lambda: len(service.events) == 2)
    assert {event["completion_id"] for event in service.events} == {ids[1]}


# Per setting, a value with which nothing is shown there, and where: by default something is.
HIDING: dict[str, tuple[Any, str]] = {
    "enable": (False, "x = "),
    "trigger": ("manual", "x = "),
    "showDelayMs": (10_000, "x = "),
    "debounceMs": (5000, "x = "),
    "minConfidence": (95, "x = "),
    "minCharacters": (5, "x = "),
    "completeComments": (False, "x = 1  # the "),
    "completeStrings": (False, 'x = "'),
    "leadingWhitespace": (False, "if x:\n    "),
    "disabledLanguages": (["python"], "x = "),
    "disabledGlobs": (["*.py"], "x = "),
}
# By what is asked of the service: the tests above.
ASKING = {"mode", "maxTokens", "maxLines", "askAhead", "feedback", "context.enable"}


@pytest.fixture(scope="module")
def hiding(server_env: dict[str, str]) -> Iterator[Callable[..., Session]]:
    """Changes the settings of the folder `/one` in a running server, whose other folder is `/two`."""
    of_one: dict[str, Any] = {}
    service = ScriptedService()
    with Session.start(env=server_env) as session:
        session.answers["workspace/configuration"] = lambda params: [
            {"endpoint": service.url, "debounceMs": 0, **(of_one if item.get("scopeUri") == "file:///one" else {})}
            for item in params["items"]
        ]
        initialize(session, ["file:///one", "file:///two"])

        def change(**settings: Any) -> Session:
            of_one.clear()
            of_one.update(settings)
            session.messages.clear()
            session.notify("workspace/didChangeConfiguration", {"settings": None})
            session.wait_notification("workspace/configuration")
            session.command("midfill.doctor")
            return session

        yield change
    service.stop()


@pytest.mark.parametrize("key", HIDING)
def test_a_setting_of_one_folder_hides_nothing_in_the_other(hiding: Callable[..., Session], key: str) -> None:
    value, text = HIDING[key]
    session = hiding(**{key: value})
    at = text.count("\n"), len(text.rpartition("\n")[2])
    for number in tries():
        one, two = (opened(session, Path(folder), text + "\n", f"{key}{number}.py") for folder in ("/one", "/two"))
        asked = time.monotonic()
        hidden = session.ask(one, *at, AUTOMATIC)
        assert texts(session, session.ask(two, *at, AUTOMATIC)) == ["pass"]
        shown: list[str] = []
        with suppress(TimeoutError):  # those that wait for a pause do so still
            shown = [item["insertText"] for item in session.wait(hidden, timeout=1)["items"]]
        if time.monotonic() - asked < 2.4:  # the shorter pause of the two
            break
    assert shown == []


def test_other_files_are_sent_along_only_where_that_is_wanted(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    service.context_length = 8192
    session = start({"context.enable": False}, {})
    one, two = (Project(folder, session, service) for folder in folders)
    for project in (one, two):
        project.open("invoices.py", INVOICE)
    assert one.context_at_end(one.open("main.py", MAIN), MAIN) == []
    assert two.context_at_end(two.open("main.py", MAIN), MAIN) != []


def test_the_folder_that_the_editor_began_with_is_outside_once_it_was_taken_out(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    session = start({}, {})
    one, two = opened(session, folders[0]), opened(session, folders[1])
    removed = {"event": {"added": [], "removed": [{"uri": folders[0].as_uri(), "name": "one"}]}}
    session.notify("workspace/didChangeWorkspaceFolders", removed)
    assert session.complete(one, 1, 4) == []
    assert session.complete(two, 1, 4) != []
    assert len(service.completions) == 1


@pytest.mark.parametrize("row", describe(), ids=lambda row: row["key"])
def test_a_folder_decides_what_vscode_lets_it_decide_and_nothing_else(row: dict[str, Any]) -> None:
    key = row["key"].removeprefix("midfill.")
    declared = json.loads(PACKAGE_JSON.read_text())["contributes"]["configuration"]["properties"].get(row["key"], {})
    in_vscode = declared.get("scope") in ("resource", "language-overridable")
    assert in_vscode == (key in HIDING or key in ASKING), "a test for it belongs into this file"
    other = {"boolean": not row["default"], "integer": row.get("maximum"), "array": ["x"], "string": "http://x"}
    values = {key: row["enum"][-1] if "enum" in row else other[row["type"]]}
    configuration = Configuration({})
    configuration.take_folders({"file:///one": values})
    configuration.resolve()
    differs = configuration.of("file:///one/a.py") != configuration.of("file:///two/a.py")
    assert differs == in_vscode


def test_wrong_settings_of_a_folder_are_named_with_it(
    start: Start, folders: tuple[Path, Path], service: ScriptedService
) -> None:
    session = start({}, {"maxLines": "many"})
    said = session.wait_notification("window/logMessage")["message"]
    assert said.startswith("midfill.maxLines: expected integer") and str(folders[1]) in said


def logged(state_home: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (state_home / "midfill").glob("*.log"))


def test_settings_that_come_late_count_and_are_no_error(
    server_env: dict[str, str], service: ScriptedService, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with Session.start(env={**server_env, "XDG_STATE_HOME": str(tmp_path)}) as session:
        session.answers["workspace/configuration"] = lambda params: [
            {"endpoint": service.url, "mode": "line"} for _ in params["items"]
        ]
        initialize(session, [folders[0].as_uri()], endpoint="http://127.0.0.1:1")
        deadline = time.monotonic() + PATIENT_S
        while "has not answered workspace/configuration" not in logged(tmp_path):
            # nothing is read here meanwhile, so nothing is answered
            assert time.monotonic() < deadline, "it waits for the settings"
            time.sleep(0.1)
        session.wait_notification("workspace/configuration")
        uri = opened(session, folders[0])
        deadline = time.monotonic() + PATIENT_S
        while not session.complete(uri, 1, 4):
            assert time.monotonic() < deadline, "the late settings were not put to use"
        assert service.completions[0].body["mode"] == "line"
    log = logged(tmp_path)
    assert "InvalidState" not in log and "internal error" not in log
