"""A service with Redis, PostgreSQL and keys, one in front of it, and Prometheus and Alertmanager that watch both."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.cluster.processes import free_port, service_environment
from deploy.monitoring.render import HERE, render
from tests.inference_service.conftest import PostgresServer, RedisServer
from tests.programs import program
from tests.service_process import running_service

SCOPES = "complete,events,metrics,admin"


class Stack:
    """What `running` yields. `pages` are the texts of both services' /metrics."""

    def __init__(self, endpoint: str, upstream: str, prometheus: str, redis: RedisServer, database: str, key: str):
        self.endpoint, self.upstream, self.prometheus = endpoint, upstream, prometheus
        self.redis, self.database, self.key = redis, database, key
        self.client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
        self.told: list[dict[str, Any]] = []  # what Alertmanager sent

    def pages(self) -> list[str]:
        return [self.client.get(f"{url}/metrics").raise_for_status().text for url in (self.endpoint, self.upstream)]

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"{self.prometheus}/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, (expression, answer.text)
        return answer.json()["data"]["result"]

    def type(self, session: str, text: str) -> None:
        """One completion that is shown and accepted."""
        body = {
            "prompt": text,
            "max_tokens": 12,
            "language": "python",
            "session": session,
            "stream": True,
            "temperature": 0,
        }
        with self.client.stream("POST", f"{self.endpoint}/v1/completions", json=body) as answer:
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
        for event in ("shown", "accepted"):
            body = {"completion_id": json.loads(lines[0])["id"], "event": event, "accepted_chars": 2}
            self.client.post(f"{self.endpoint}/v1/events", json=body).raise_for_status()


def wait_for(what: str, holds: Callable[[], Any], seconds: float = 180) -> Any:
    """The first true value of `holds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if found := holds():
                return found
        time.sleep(0.2)
    raise AssertionError(f"{seconds} seconds without: {what}")


def command(*words: str, **environ: str) -> str:
    """The output of a `midfill-serve` command."""
    done = subprocess.run(
        [sys.executable, "-m", "inference_service", *words], env={**service_environment({}), **environ},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def process(*words: str | Path) -> Iterator[None]:
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


@contextlib.contextmanager
def running(folder: Path, models: Path) -> Iterator[Stack]:
    with contextlib.ExitStack() as ends:
        redis = RedisServer()
        ends.callback(redis.kill)
        postgres = PostgresServer()
        ends.callback(postgres.remove)
        database = postgres.new_database()
        command("database", "upgrade", "--database", database)
        made = command("keys", "create", "--owner", "drill", "--scopes", SCOPES, "--database", database)
        key = next(line for line in made.splitlines() if line.startswith("mf_")).strip()
        (folder / "key").write_text(key)
        options = ("--database", database, "--redis", redis.url, "--models", str(models))
        endpoint = ends.enter_context(running_service(*options, "--spool-dir", str(folder / "spool")))
        options = ("--upstream", endpoint, "--database", "none")
        upstream = ends.enter_context(running_service(*options, MIDFILL_UPSTREAM_KEY=key))
        prometheus = f"http://127.0.0.1:{free_port()}"
        stack = Stack(endpoint, upstream, prometheus, redis, database, key)
        ends.callback(stack.client.close)
        alertmanager = ends.enter_context(_alertmanager(folder, stack.told))
        ends.enter_context(_prometheus(folder, stack, alertmanager))
        wait_for("Prometheus", lambda: stack.client.get(f"{prometheus}/-/ready").status_code == 200)
        yield stack


@contextlib.contextmanager
def _prometheus(folder: Path, stack: Stack, alertmanager: str) -> Iterator[None]:
    targets = [url.removeprefix("http://") for url in (stack.endpoint, stack.upstream)]
    config = render(folder / "made", targets, interval="1s", alertmanager=alertmanager, key_file=folder / "key")
    for path in (folder / "made" / "rules").glob("*.yml"):  # the same rules, without their patience
        path.write_text(re.sub(r"^( +for:) .*$", r"\1 1s", path.read_text(), flags=re.MULTILINE))
    options = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}")
    address = stack.prometheus.removeprefix("http://")
    with process(program("prometheus", "prometheus"), *options, f"--web.listen-address={address}"):
        yield


@contextlib.contextmanager
def _alertmanager(folder: Path, told: list[dict[str, Any]]) -> Iterator[str]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    text = (HERE / "alertmanager.yml").read_text().replace("alerts:8080", f"127.0.0.1:{receiver.server_port}")
    text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)
    assert yaml.safe_load(text)
    (folder / "alertmanager.yml").write_text(text)
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alerts'}")
    alone = "--cluster.listen-address="
    alertmanager = program("prometheus-alertmanager", "prometheus-alertmanager")
    with process(alertmanager, *options, alone, f"--web.listen-address={address}"):
        yield address
    receiver.shutdown()
    receiver.server_close()
