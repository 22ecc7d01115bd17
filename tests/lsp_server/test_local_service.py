"""The embedded service: started, waited for, restarted, and never left behind.

The child is a stand-in with the real one's command line: it has to start slowly, crash and hang on demand.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lsp_server.local_service import MISSING, STARTING, LocalService
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
time.sleep(0.3)
service = ScriptedService(int(sys.argv[sys.argv.index("--port") + 1]))
assert os.environ["MIDFILL_EXIT_ON_STDIN_EOF"] == "1"
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
    monkeypatch.setenv("FAKE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def starts(home: Path) -> list[list[str]]:
    """Process id and token of each start so far."""
    file = home / "starts"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], object], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def until_async(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


def local_service(home: Path, states: list[tuple[str | None, str, bool]], requires: str = "json") -> LocalService:
    return LocalService(
        home / "service.log",
        lambda *state: states.append(state),
        command=(sys.executable, str(home / "inference_service" / "__main__.py")),
        requires=requires,
    )


async def test_starts_becomes_ready_and_stops(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDFILL_TOKEN", "sk-team")
    states: list[tuple[str | None, str, bool]] = []
    local = local_service(home, states)
    local.start()
    assert states == [(None, STARTING, False)]
    await until_async(lambda: len(states) > 1)
    assert states[1][0] is not None and states[1][0].startswith("http://127.0.0.1:")
    pid, token = starts(home)[0]
    assert token == "None", "the team's key is not for the local service"
    assert "hello from the child" in (home / "service.log").read_text()
    await local.stop()
    assert not alive(int(pid))
    assert len(states) == 2, "stopping is no failure"


async def test_is_started_again_when_it_dies(home: Path) -> None:
    states: list[tuple[str | None, str, bool]] = []
    local = local_service(home, states)
    local.start()
    await until_async(lambda: any(url for url, _, _ in states))
    os.kill(int(starts(home)[0][0]), signal.SIGKILL)
    await until_async(lambda: sum(url is not None for url, _, _ in states) == 2)
    assert len(starts(home)) == 2
    assert states[2][0] is None and "stopped" in states[2][1] and states[2][2]
    await local.stop()


async def test_a_child_that_cannot_start_says_where_to_look(home: Path) -> None:
    (home / "crash").touch()
    states: list[tuple[str | None, str, bool]] = []
    local = local_service(home, states)
    local.start()
    await until_async(lambda: len(states) > 1)
    assert states[1][2] and "exit status 7" in states[1][1] and "service.log" in states[1][1]
    await asyncio.sleep(0.5)
    assert len(starts(home)) == 1, "not in a tight loop"
    await local.stop()


def test_missing_dependencies_are_named(home: Path) -> None:
    states: list[tuple[str | None, str, bool]] = []
    local_service(home, states, requires="no_such_package").start()
    assert states == [(None, MISSING, True)]
    assert 'pip install "midfill[serve]"' in MISSING


def start_editor(home: Path, server_env: dict[str, str]) -> Session:
    # The folder that the editor has open holds a module that must not run: neither here nor in the child.
    project = home / "project"
    project.mkdir()
    (project / "uuid.py").write_text("raise SystemExit('a file of the project was imported')")
    command = (sys.executable, "-P", "-m", "lsp_server")
    env = {**server_env, "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"}
    session = Session.start(command, env, cwd=project)
    session.initialize()
    return session


def test_without_configuration_the_language_server_brings_its_own(home: Path, server_env: dict[str, str]) -> None:
    with start_editor(home, server_env) as session:
        session.open("file:///a.py", "x = ")
        assert session.complete("file:///a.py", 0, 4) == []
        session.wait_notification("didChangeStatus", lambda s: s["message"] == STARTING)
        session.wait_notification("didChangeStatus", lambda s: s["message"] == "" and s["kind"] == "Normal")
        assert session.complete("file:///a.py", 0, 4)[0]["insertText"] == "pass"
        pid = int(starts(home)[0][0])
        assert alive(pid)
    assert not alive(pid)


@pytest.mark.parametrize("end", ["killed", "stdin closed"])
def test_the_child_never_outlives_the_language_server(home: Path, server_env: dict[str, str], end: str) -> None:
    session = start_editor(home, server_env)
    until(lambda: starts(home))
    pid = int(starts(home)[0][0])
    if end == "killed":
        session.process.kill()
    else:
        session.process.stdin.close()
    session.process.wait(10)
    until(lambda: not alive(pid))
