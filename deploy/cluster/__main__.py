"""`make cluster`: start it, say how to use it, keep it up until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from deploy.cluster.cluster import Cluster
from deploy.cluster.processes import HOST, ROOT, NotStarted, listens
from deploy.cluster.programs import Missing, unpack

_DEFAULTS = {"MIDFILL_PORT": "8443", "MIDFILL_OPERATOR_PORT": "8444"}
_FOLDER = ROOT / ".runs" / "cluster"

_TEXT = """
Midfill serves on {url}, with {certificate} as the authority of its certificate
  replicas    {replicas}
  operators   {operator_url}  (/admin, /nginx_status; only here)
  key         {key}
  admin key   {admin_key}
  logs        {folder}/*.log; models to try go into {folder}/models, which is emptied at the next start

  curl -s --cacert {certificate} {url}/v1/completions -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"prompt": "def add(a, b):\\n    return ", "max_tokens": 8, "temperature": 0}}'

Ctrl-C ends everything. A replica that ends is started again: try `kill -9` on one of them.
"""


def main() -> int:
    argparse.ArgumentParser(prog="python -m deploy.cluster", description=__doc__).parse_args()
    ports = []
    for name, default in _DEFAULTS.items():
        given = os.environ.get(name, default)
        if not (given.isdecimal() and 0 < int(given) < 65536):
            print(f"{name} is {given!r}: give a port from 1 to 65535, as in '{name}=9443 make cluster'.")
            return 1
        ports.append(port := int(given))
        if listens(port):
            print(f"Port {port} on {HOST} is in use: stop what uses it, or run '{name}=9443 make cluster'.")
            return 1
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    try:
        unpack(["nginx", "redis-server", "postgresql"])
        print("starting Redis, PostgreSQL, three replicas and nginx", flush=True)
        with Cluster(_FOLDER, ports=(ports[0], ports[1])) as cluster:
            key, admin_key = cluster.new_key("you"), cluster.new_key("operator", "complete,events,metrics,admin")
            replicas = "  ".join(f"{one.url} (process {one.process.pid})" for one in cluster.replicas if one.process)
            print(
                _TEXT.format(
                    url=cluster.url, operator_url=cluster.operator_url, certificate=cluster.certificate,
                    folder=cluster.folder, key=key, admin_key=admin_key, replicas=replicas,
                ),
                flush=True,
            )  # fmt: skip
            cluster.supervise()
            while not end.wait(1) and (fallen := cluster.fallen()) is None:
                pass
            if not end.is_set() and fallen:
                print(f"{fallen.name} ended; {fallen.log} says why")
                return 1
            print("\nstopping")
    except (Missing, NotStarted) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
