"""The processes of the cluster: Redis, PostgreSQL, nginx and the replicas, each with its log in one folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from deploy.cluster.programs import find

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_START_S = 300.0  # a replica that has to compile its kernels first, on a busy machine
_END_S = 60.0


class NotStarted(Exception):
    """A process did not come up; the message ends with what it said last."""


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Process:
    """One program; `start` after `stop` or `kill` begins anew with the same command."""

    def __init__(
        self, name: str, command: Sequence[str], logs: Path, env: Mapping[str, str] | None = None, **user: Any
    ) -> None:
        self.name, self.log = name, logs / f"{name}.log"
        self._command, self._env, self._user = command, env, user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # a group of its own: Ctrl-C is for the cluster, which ends them in order
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=tempfile.gettempdir(),
                env=self._env, start_new_session=True, **self._user,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int) -> None:
        if self.running and self.process:
            self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it gracefully; by force where that takes a minute."""
        self.send(number)
        self.wait()

    def wait(self) -> None:
        if self.process:
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """As a crash does it."""
        self.send(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def wait_until(self, answers: Any) -> None:
        """Until `answers()` is true. Raises NotStarted when the process ends first, or takes five minutes."""
        until = time.monotonic() + _START_S
        while not answers():
            if not self.running or time.monotonic() > until:
                said = self.log.read_text(errors="replace").splitlines()[-5:]
                raise NotStarted(f"{self.name} did not start; {self.log} ends with\n" + "\n".join(said))
            time.sleep(0.1)


class Redis(Process):
    def __init__(self, folder: Path) -> None:
        program, self.port, password = find("redis-server", "redis-server"), free_port(), secrets.token_hex(16)
        self.url = f"redis://:{password}@{HOST}:{self.port}/0"
        config = folder / "redis.conf"  # not on the command line, which every user of the machine can read
        _write_private(config, f"bind {HOST}\nport {self.port}\nrequirepass {password}\nsave ''\nappendonly no\n")
        super().__init__("redis", [program, str(config)], folder)

    def start(self) -> None:
        super().start()
        self.wait_until(lambda: listens(self.port))


class Postgres(Process):
    """Its data is in a temporary folder of an ordinary user, since PostgreSQL refuses root; `remove` deletes it."""

    def __init__(self, folder: Path) -> None:
        initdb, program = find("initdb", "postgresql"), find("postgres", "postgresql")
        self._data = Path(tempfile.mkdtemp(prefix="midfill-postgres-"))
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.port, self.password = free_port(), secrets.token_hex(16)
        password_file = self._data / "password"
        _write_private(password_file, self.password)
        for path in (self._data, password_file):
            if user:
                os.chown(path, user["user"], user["group"])
        command = [initdb, "-D", f"{self._data}/data", "-U", "midfill", "-A", "scram-sha-256", "-E", "UTF8"]
        with (folder / "initdb.log").open("wb") as log:
            subprocess.run(
                [*command, "--no-sync", f"--pwfile={password_file}"], check=True, stdout=log, stderr=log,
                cwd=self._data, **user,
            )  # fmt: skip
        serve = [program, "-D", f"{self._data}/data", "-p", str(self.port), "-h", HOST, "-k", str(self._data)]
        super().__init__("postgres", [*serve, "-F"], folder, **user)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://midfill:{self.password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        super().start()
        self.wait_until(self._answers)

    def new_database(self, name: str) -> str:
        """Its URL."""
        import psycopg
        from psycopg.sql import SQL, Identifier

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.url(name)

    def remove(self) -> None:
        self.stop(signal.SIGINT)
        shutil.rmtree(self._data, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=2).close()
            return True
        return False


class Replica(Process):
    """A `midfill-serve` on a port that it keeps. `settings` are its settings by name."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, object]) -> None:
        self.port = free_port()
        self.address, self.url = f"{HOST}:{self.port}", f"http://{HOST}:{self.port}"
        env = service_environment({**settings, "host": HOST, "port": self.port})
        super().__init__(name, [sys.executable, "-m", "inference_service"], folder, env)

    @property
    def ready(self) -> bool:
        return _status(f"{self.url}/readyz") == 200

    def start(self, wait: bool = True) -> None:
        super().start()
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: self.ready)


class Nginx(Process):
    """nginx with the configuration of deploy/nginx, rendered from `settings` (MIDFILL_…)."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._program = find("nginx", "nginx")
        self.folder, self.config = folder / "nginx", folder / "nginx" / "nginx.conf"
        self.folder.mkdir(exist_ok=True)
        self.access_log = folder / "access.log"
        self.settings = {
            **settings,
            "MIDFILL_NGINX_DIR": str(self.folder),
            "MIDFILL_ACCESS_LOG": str(self.access_log),
        }
        self.render()
        super().__init__("nginx", [self._program, "-c", str(self.config)], folder)

    def render(self) -> None:
        """Write the configuration and have nginx check it. Raises NotStarted with what nginx says against it."""
        render, env = ROOT / "deploy" / "nginx" / "render.sh", {**os.environ, **self.settings}
        rendered = subprocess.run([str(render)], env=env, capture_output=True, check=True)
        self.config.write_bytes(rendered.stdout)
        check = [self._program, "-t", "-q", "-c", str(self.config)]
        checked = subprocess.run(check, capture_output=True, text=True)
        if checked.returncode:
            raise NotStarted(f"nginx refuses {self.config}: {checked.stderr}")

    def start(self) -> None:
        super().start()
        self.wait_until(lambda: listens(int(self.settings["MIDFILL_LISTEN"].rpartition(":")[2])))


def service_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """For `midfill-serve`: these settings, and none that somebody has in the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIDFILL_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**clean, "PYTHONPATH": path, **{f"MIDFILL_{name.upper()}": str(value) for name, value in settings.items()}}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _status(url: str) -> int | None:
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310 (our own address)
            return int(response.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return None


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
