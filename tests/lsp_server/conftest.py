"""A real server process and a scripted service, shared where tests do not disturb each other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import Session


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    """A service of this test's own."""
    scripted = ScriptedService()
    yield scripted
    scripted.stop()


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this run write their logs."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def server_env(state_home: Path) -> dict[str, str]:
    """The environment of a server under test."""
    return {"XDG_STATE_HOME": str(state_home), "MIDFILL_TOKEN": ""}


@pytest.fixture(scope="session")
def shared_session(server_env: dict[str, str]) -> Iterator[Session]:
    """One initialized server for all tests that use it through `editor`."""
    with Session.start(env=server_env) as session:
        session.initialize(endpoint="http://127.0.0.1:1")
        yield session


class Editor:
    """An open document in a shared server, connected to this test's service."""

    def __init__(self, session: Session, service: ScriptedService, name: str) -> None:
        self.session = session
        self.service = service
        self.name = name
        self.uri = ""

    def configure(self, **settings: object) -> None:
        """Use this test's service, no debounce, nothing asked in advance, a timeout that no busy machine comes near,
        and `settings`."""
        ours = {"endpoint": self.service.url, "debounceMs": 0, "askAhead": False, "requestTimeoutMs": 60_000}
        self.session.configure(**{**ours, **settings})

    def open(self, marked: str, file: str = "main.py", language: str = "python") -> None:
        """Open a document whose cursor is at `║`."""
        before, after = marked.split("║")
        self.uri = f"file:///project/{self.name}/{file}"
        self.session.open(self.uri, before + after, language)
        self.line = before.count("\n")
        self.character = len(before.rpartition("\n")[2])

    def type(self, text: str) -> None:
        """Type `text`, which holds no line end, at the cursor."""
        self.session.insert(self.uri, self.line, self.character, text)
        self.character += len(text)

    def ask(self, kind: int = 1) -> int:
        """Ask for a completion at the cursor; the request's id."""
        return self.session.ask(self.uri, self.line, self.character, kind)

    def items(self, kind: int = 1) -> list[dict]:
        """The completion items at the cursor."""
        return self.session.wait(self.ask(kind))["items"]

    def texts(self, kind: int = 1) -> list[str]:
        """The completion texts at the cursor."""
        return [item["insertText"] for item in self.items(kind)]

    def round_trip(self) -> None:
        """Return once the server has taken in all that it was told, and what the service had sent it until then: it
        has reported something to the service since, twice."""
        for _ in range(2):
            event = {"completion_id": uuid.uuid4().hex, "event": "accepted"}
            self.session.command("midfill.accepted", event["completion_id"])
            self.service.wait(lambda event=event: event in self.service.events)

    def why(self) -> str:
        """The reason that the doctor gives for the last request."""
        return self.session.command("midfill.doctor").splitlines()[-1]


@pytest.fixture
def editor(shared_session: Session, service: ScriptedService, request: pytest.FixtureRequest) -> Editor:
    """A fresh document place in a shared server, with settings at their defaults but no debounce."""
    shared_session.messages.clear()
    made = Editor(shared_session, service, request.node.name.replace("[", "-").replace("]", ""))
    made.configure()
    return made
