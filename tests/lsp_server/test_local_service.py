"""The embedded service: found or started, shared, restarted, and gone when nobody needs it.

The child is a stand-in with the real one's command line: it has to start slowly, crash and hang on demand.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from lsp_server import local_record
from lsp_server.local_service import MISSING, STARTING, LocalService, LocalState
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.session import ROOT, Session

CHILD = """
import os, sys, threading, time
from pathlib import Path
from tests.lsp_server.scripted_service import ScriptedService

home = Path(os.environ["FAKE_HOME"])
with (home / "starts").open("a") as file:
    file.write(f"{os.getpid()} {os.environ.get('MIDFILL_TOKEN')}\\n")
print("hello from the child", flush=True)
if (home / "crash").exists():
    sys.exit(7)
while not (home / "go").exists():
    time.sleep(0.05)
service = ScriptedService(int(sys.argv[sys.argv.index("--port") + 1]))
assert len(Path(os.environ["MIDFILL_API_KEYS_FILE"]).read_text().strip()) == 64
assert os.environ["MIDFILL_EXIT_ON_STDIN_EOF"] == "1"
assert "MIDFILL_STORE_CODE" not in os.environ and os.environ["MIDFILL_MODEL"] == "mine"
sys.stdin.buffer.read()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an `inference_service` that is the stand-in, and with the real `lsp_server`."""
    package = tmp_path / "inference_service"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(CHILD)
    (tmp_path / "lsp_server").symlink_to(ROOT / "lsp_server")
    (tmp_path / "state").mkdir()
    (tmp_path / "go").touch()
    monkeypatch.setenv("FAKE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MIDFILL_MODEL", "mine")
    return tmp_path


def starts(home: Path) -> list[list[str]]:
    """Process id and token of each start so far."""
    file = home / "starts"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def record(home: Path) -> local_record.Record | None:
    return local_record.read(local_record.record_path(home / "state"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while this reads
        return False


def until(condition: Callable[[], object], timeout: float = PATIENT_S) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def until_async(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


class Guest:
    """A language server's side of the local service, and the states it was told."""

    def __init__(self, home: Path, idle_s: float, requires: str = "json") -> None:
        self.states: list[LocalState] = []
        self.local = LocalService(
            home / "state" / "service.log",
            self.states.append,
            idle_s,
            command=(sys.executable, str(home / "inference_service" / "__main__.py")),
            requires=requires,
        )

    @property
    def url(self) -> str | None:
        return self.states[-1].base_url

    async def ready(self) -> None:
        await until_async(lambda: self.url)


@pytest.fixture
async def come(home: Path) -> AsyncIterator[Callable[..., Awaitable[Guest]]]:
    """Lets a guest begin; all of them leave in the end, and with them the service."""
    guests: list[Guest] = []

    async def start(idle_s: float = 0, wait: bool = True) -> Guest:
        guest = Guest(home, idle_s)
        guests.append(guest)
        guest.local.start()
        if wait:
            await guest.ready()
        return guest

    yield start
    for guest in guests:
        await guest.local.stop()
    await until_async(lambda: not any(alive(int(pid)) for pid, _ in starts(home)))


async def test_starts_becomes_ready_and_stops(
    home: Path, come: Callable[..., Awaitable[Guest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFILL_TOKEN", "sk-team")
    monkeypatch.setenv("MIDFILL_STORE_CODE", "1")
    guest = await come()
    assert guest.states[0] == LocalState(None, "", STARTING, False)
    assert guest.url is not None and guest.url.startswith("http://127.0.0.1:")
    pid, token = starts(home)[0]
    assert token == "None", "the team's key is not for the local service"
    assert "hello from the child" in (home / "state" / "service.log").read_text()
    told = len(guest.states)
    await guest.local.stop()
    await until_async(lambda: not alive(int(pid)))
    assert record(home) is None
    assert len(guest.states) == told, "stopping is no failure"


async def test_two_editors_that_start_at_the_same_moment_share_it(
    home: Path, come: Callable[..., Awaitable[Guest]]
) -> None:
    guests = [await come(wait=False) for _ in range(4)]
    for guest in guests:
        await guest.ready()
    assert len({(guest.url, guest.states[-1].token) for guest in guests}) == 1
    assert len(starts(home)) == 1
    for guest in guests[1:]:
        await guest.local.stop()
    await asyncio.sleep(0.3)
    assert alive(int(starts(home)[0][0])), "one editor still needs it"


async def test_the_record_is_for_this_user_alone(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    await come()
    path = local_record.record_path(home / "state")
    for file in (path, path.with_suffix(".keys"), path.with_suffix(".lock")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = record(home)
    assert found is not None
    path.chmod(0o644)
    assert record(home) is None, "somebody else may have written it"
    path.chmod(0o600)
    reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
    writer.write(b"let me in\n")
    assert await reader.read() == b"", "without the word nobody is told anything"
    writer.close()


async def test_goes_on_for_a_while_after_the_last_editor(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    first = await come(idle_s=600)
    await first.local.stop()
    second = await come(idle_s=600)
    assert second.url == first.url
    assert len(starts(home)) == 1
    found = record(home)
    assert found is not None
    os.kill(found.pid, signal.SIGTERM)


async def test_and_ends_then(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    guest = await come(idle_s=1)
    await guest.local.stop()
    assert alive(int(starts(home)[0][0])), "a second later"
    await until_async(lambda: not alive(int(starts(home)[0][0])))


async def test_is_started_again_when_it_dies(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    guest = await come()
    os.kill(int(starts(home)[0][0]), signal.SIGKILL)
    await until_async(lambda: sum(state.base_url is not None for state in guest.states) == 2)
    assert len(starts(home)) == 2
    assert any(state.failed and "stopped" in state.message for state in guest.states)


async def test_is_started_again_when_its_host_dies(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    guests = [await come(), await come()]
    found = record(home)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    await until_async(lambda: len(starts(home)) == 2)
    await until_async(lambda: not alive(int(starts(home)[0][0])))
    for guest in guests:
        await until_async(lambda guest=guest: sum(state.base_url is not None for state in guest.states) == 2)
    assert guests[0].states[-1] == guests[1].states[-1]


async def test_a_child_that_cannot_start_says_where_to_look(home: Path, come: Callable[..., Awaitable[Guest]]) -> None:
    (home / "crash").touch()
    guest = await come(wait=False)
    await until_async(lambda: guest.states[-1].failed)
    assert "exit status 7" in guest.states[-1].message and "service.log" in guest.states[-1].message
    failed = time.monotonic()
    await asyncio.sleep(0.5)
    assert len(starts(home)) <= 1 + (time.monotonic() - failed) / 1.0, "not in a tight loop: a second apart at first"


def test_missing_dependencies_are_named(home: Path) -> None:
    guest = Guest(home, 0, requires="no_such_package")
    guest.local.start()
    assert guest.states == [LocalState(None, "", MISSING, True)]
    assert 'pip install ".[serve]"' in MISSING


def start_editor(home: Path, **capabilities: object) -> Session:
    # The folder that the editor has open holds a module that must not run: neither here nor in the child.
    project = home / "project"
    project.mkdir(exist_ok=True)
    (project / "uuid.py").write_text("raise SystemExit('a file of the project was imported')")
    command = (sys.executable, "-P", "-m", "lsp_server")
    env = {"XDG_STATE_HOME": str(home), "MIDFILL_TOKEN": "", "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"}
    session = Session.start(command, env, cwd=project)
    session.initialize(capabilities=dict(capabilities), localIdleMinutes=0)
    return session


def test_without_configuration_the_language_server_brings_its_own(home: Path) -> None:
    (home / "go").unlink()
    with start_editor(home, window={"workDoneProgress": True}) as session:
        session.open("file:///a.py", "x = ")
        assert session.complete("file:///a.py", 0, 4) == []
        (home / "go").touch()
        session.wait_notification("didChangeStatus", lambda s: s["message"] == STARTING)
        session.wait_notification("didChangeStatus", lambda s: s["message"] == "" and s["kind"] == "Normal")
        assert session.complete("file:///a.py", 0, 4)[0]["insertText"] == "pass"
        ended = session.wait_notification("$/progress", lambda p: p["value"]["kind"] == "end")
        begun = session.wait_notification("$/progress", lambda p: p["value"]["kind"] == "begin")
        assert ended["token"] == begun["token"]
        pid = int(starts(home)[0][0])
        assert alive(pid)
    until(lambda: not alive(pid))


@pytest.mark.parametrize("end", ["killed", "stdin closed"])
def test_the_child_ends_with_the_last_language_server(home: Path, end: str) -> None:
    session = start_editor(home)
    until(lambda: starts(home))
    session.open("file:///a.py", "x = ")
    session.wait_notification("didChangeStatus", lambda s: s["message"] == STARTING)
    session.wait_notification("didChangeStatus", lambda s: s["message"] == "" and s["kind"] == "Normal")
    pid = int(starts(home)[0][0])
    if end == "killed":
        session.process.kill()
    else:
        session.process.stdin.close()
    session.process.wait(PATIENT_S)
    until(lambda: not alive(pid))
