"""Three replicas behind nginx with Redis and PostgreSQL, on loopback."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from deploy.cluster.processes import (
    HOST,
    Nginx,
    NotStarted,
    Postgres,
    Process,
    Redis,
    Replica,
    free_port,
    service_environment,
)
from deploy.cluster.programs import find

_RESTART_S = 1.0  # a supervisor's pause, so that a process that cannot start does not take the machine


class Cluster:
    """Context manager: up inside, gone outside. `folder` holds logs, certificate and models; it is emptied first.

    `replicas` of them, with `settings` of the service beside those that make it a cluster. Raises Missing, NotStarted.
    """

    def __init__(
        self, folder: Path, replicas: int = 3, ports: tuple[int, int] | None = None, **settings: object
    ) -> None:
        self.folder = folder
        self.models, self.spool = folder / "models", folder / "spool"
        self.certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self.port, self.operator_port = ports or (free_port(), free_port())
        self.url, self.operator_url = f"https://{HOST}:{self.port}", f"http://{HOST}:{self.operator_port}"
        self._count, self._extra = replicas, settings
        self._open = contextlib.ExitStack()
        self._supervisor: threading.Thread | None = None
        self._ending = threading.Event()
        self._left_down: set[str] = set()  # replicas that somebody took down on purpose

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._supervisor:
            self._supervisor.join()
        self._open.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.folder, self.models, self.spool):
            folder.mkdir(parents=True, mode=0o700)
        make_certificate(self.certificate, self._key)
        self.redis = Redis(self.folder)
        stack.callback(self.redis.stop)
        self.redis.start()
        self.postgres = Postgres(self.folder)
        stack.callback(self.postgres.remove)
        self.postgres.start()
        self.database = self.postgres.new_database("midfill")
        self.settings: dict[str, object] = {
            "database": self.database, "redis": self.redis.url, "models": self.models, "spool_dir": self.spool,
            "device": "cpu", "threads": 1, **self._extra,
        }  # fmt: skip
        self.command("database", "upgrade")
        self.replicas = [self.new_replica(f"replica-{number + 1}", stack) for number in range(self._count)]
        self.replicas[0].start()  # alone: it compiles the kernels that the others then find
        for replica in self.replicas[1:]:
            replica.start(wait=False)
        for replica in self.replicas[1:]:
            replica.wait_until_ready()
        self.nginx = Nginx(
            self.folder,
            {
                "MIDFILL_REPLICAS": " ".join(replica.address for replica in self.replicas),
                "MIDFILL_TLS_CERTIFICATE": str(self.certificate),
                "MIDFILL_TLS_KEY": str(self._key),
                "MIDFILL_LISTEN": f"{HOST}:{self.port}",
                "MIDFILL_OPERATOR_LISTEN": f"{HOST}:{self.operator_port}",
            },
        )
        stack.callback(self.nginx.stop)
        self.nginx.start()

    def new_replica(self, name: str, stack: contextlib.ExitStack | None = None, **settings: object) -> Replica:
        """One that is not started yet, with the settings of the others; it ends with the cluster."""
        replica = Replica(name, self.folder, {**self.settings, **settings})
        (stack or self._open).callback(replica.stop)
        return replica

    def command(self, *arguments: str) -> str:
        """Run `midfill-serve ARGUMENTS` with the cluster's database; its stdout. Raises NotStarted."""
        done = subprocess.run(
            [sys.executable, "-m", "inference_service", *arguments], capture_output=True, text=True, cwd=self.folder,
            env=service_environment({"database": self.database}),
        )  # fmt: skip
        if done.returncode:
            raise NotStarted(f"midfill-serve {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout.strip()

    def new_key(self, owner: str, scopes: str = "complete,events", **quota: int) -> str:
        """A key; `quota` as requests_per_minute=…, tokens_per_minute=…, concurrency=…."""
        limits = [word for name, most in quota.items() for word in (f"--{name.replace('_', '-')}", str(most))]
        return self.command("keys", "create", "--owner", owner, "--scopes", scopes, *limits)

    def restart(self, replica: Replica) -> None:
        """As a rolling update does it: end one gracefully, go on when it is ready again."""
        self._left_down.add(replica.name)
        replica.stop()
        replica.start()
        self._left_down.discard(replica.name)

    def supervise(self) -> None:
        """From now on start replicas again that end by themselves."""
        self._supervisor = threading.Thread(target=self._restart_the_dead, daemon=True)
        self._supervisor.start()

    def fallen(self) -> Process | None:
        """One of those without which nothing goes on, when it is down."""
        return next((one for one in (self.nginx, self.postgres, self.redis) if not one.running), None)

    def _restart_the_dead(self) -> None:
        while not self._ending.wait(0.2):
            for replica in self.replicas:
                if not replica.running and replica.name not in self._left_down:
                    print(f"{replica.name} ended; starting it again", flush=True)
                    time.sleep(_RESTART_S)
                    replica.start(wait=False)


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed one for loopback, good for a month, which is its own authority."""
    openssl = find("openssl", "openssl")
    extensions = (
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,digitalSignature,keyCertSign",
        f"subjectAltName=DNS:localhost,IP:{HOST}",
    )
    added = [word for extension in extensions for word in ("-addext", extension)]
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(
        [openssl, "req", "-x509", "-days", "30", *curve, "-subj", "/CN=midfill on loopback", *added,
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
