"""One cluster for all drills of a test run: starting it takes longer than most of them."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.cluster.cluster import Cluster, make_certificate
from deploy.cluster.processes import Nginx, Replica, free_port
from deploy.cluster.programs import Missing
from tests.conftest import BUNDLED_NANO
from tests.deploy.editors import Editors
from tests.programs import missing

pytest.register_assert_rewrite(*(f"tests.deploy.drill_{name}" for name in ("access", "failures", "rollout", "backup")))


class Drilled(Cluster):
    """The cluster with what the drills ask it."""

    key: str
    admin_key: str

    def client(self, key: str | None = None, url: str | None = None, **options: Any) -> httpx.AsyncClient:
        """Talks to nginx (or `url`) over TLS, with the team's key or another one."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.AsyncClient(
            base_url=url or self.url, verify=trust, headers=headers, timeout=60, trust_env=False, **options
        )

    def editors(self, count: int, url: str | None = None, **options: Any) -> Editors:
        """People who type, through nginx."""
        return Editors(url or self.url, self.certificate, self.key, count, **options)

    def accesses(self, nginx: Nginx | None = None) -> list[dict[str, Any]]:
        """The access log of nginx."""
        return [json.loads(line) for line in (nginx or self.nginx).access_log.read_text().splitlines()]

    def metrics(self, replica: Replica) -> dict[str, float]:
        """The values of a replica's metrics by name with labels."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        page = httpx.get(f"{replica.url}/metrics", headers=headers, timeout=30, trust_env=False).text
        lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def add_version(self, folder: str, like: Path = BUNDLED_NANO) -> str:
        """Put a copy of the model `like` with a card of its own into the store; its version."""
        from inference_service.model import directory  # late: it brings torch

        path = self.models / folder
        shutil.copytree(like, path)
        (path / "card.md").write_text(f"# {folder}\n")
        directory.write_manifest(path)
        return directory.load(path).version

    def another_nginx(self, **settings: str) -> tuple[str, Nginx]:
        """One more, not started yet, on ports of its own: (its URL, it)."""
        port = free_port()
        own = {"MIDFILL_LISTEN": f"127.0.0.1:{port}", "MIDFILL_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}"}
        folder = self.folder / f"nginx-{port}"
        folder.mkdir()
        nginx = Nginx(folder, {**self.nginx.settings, **own, **settings})
        self._open.callback(nginx.stop)
        return f"https://127.0.0.1:{port}", nginx


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drilled]:
    try:
        with Drilled(tmp_path_factory.mktemp("cluster") / "state") as cluster:
            cluster.key = cluster.new_key("team")
            cluster.admin_key = cluster.new_key("operator", "complete,events,metrics,admin")
            yield cluster
    except Missing as problem:
        missing(str(problem))


@pytest.fixture
async def cluster(running_cluster: Drilled) -> AsyncIterator[Drilled]:
    """With its three replicas up, before and after the test."""
    yield running_cluster
    for replica in running_cluster.replicas:
        if not replica.running:
            replica.start(wait=False)
    for replica in running_cluster.replicas:
        replica.wait_until_ready()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    make_certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    return tmp_path / "tls.crt", tmp_path / "tls.key"
