"""Real Redis and PostgreSQL on free ports of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster.processes import free_port, listens
from tests.programs import program


def wait_for_port(port: int) -> None:
    for _ in range(2000):
        if listens(port):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


class RedisServer:
    """Can be killed, and started again on the same port; stopped and continued."""

    def __init__(self) -> None:
        self._program = program("redis-server", "redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        wait_for_port(self.port)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


class PostgresServer:
    """A cluster in a temporary folder, run by an ordinary user: PostgreSQL refuses root."""

    def __init__(self) -> None:
        self._initdb, self._postgres = (program(name, "postgresql") for name in ("initdb", "postgres"))
        self._folder = Path(tempfile.mkdtemp(prefix="midfill-postgres-"))
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.port = free_port()
        options = ("-U", "midfill", "-A", "trust", "-E", "UTF8", "--no-sync")
        command = [self._initdb, "-D", f"{self._folder}/data", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **self._user)  # type: ignore
        self.start()

    def start(self) -> None:
        command = [self._postgres, "-D", f"{self._folder}/data", "-p", str(self.port), "-k", str(self._folder), "-F"]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=self._folder, **self._user)  # type: ignore
        wait_for_port(self.port)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        import psycopg

        for _ in range(2000):
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=10).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise AssertionError("PostgreSQL does not answer")

    def url(self, database: str) -> str:
        return f"postgresql://midfill:secret-word@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once, as in a crash
        self.process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/midfill.sqlite"
    return str(request.getfixturevalue("postgres").new_database())
