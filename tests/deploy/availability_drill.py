"""Minutes of typing with a replica killed every so often: how many requests were answered, and how fast.

    python -m tests.deploy.availability_drill --minutes 30 --kill-every 120 --editors 20 --report deploy/availability

starts the cluster of `make cluster` on free ports, has editors type (the language server's own client, over TLS and
through nginx), sends SIGKILL to one replica after the other, which a supervisor starts again, and writes REPORT.json
and REPORT.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.cluster.cluster import Cluster
from tests.benchmarks import record
from tests.deploy.editors import Editors, Outcome, counts

KEYS_KNOWN_S = 3.0  # replicas read new keys every two seconds
WARM_UP_ANSWERS = 20

_PAGE = """# Availability drill

```sh
{command}
```

{minutes:g} minutes from {began}, commit {commit}, on {machine[cores]} cores of {machine[processor]}, {load:.1f} of them
busy on average, also with the load's own clients: three replicas behind nginx, {editors} editors, a replica killed with
SIGKILL every {kill_every:g} s ({kills} kills). A supervisor starts it again; it was ready after {ready_s} s.

| | |
|---|---|
| requests | {requests} |
| answered whole, at the first time of asking | {answered} |
| success ratio, strict: all others count as failures | **{strict_percent:.3f} %** |
| refused with `Retry-After` (429, 503) | {refused} |
| cut: streams that ran on a killed replica | {cut} |
| failed otherwise | {failed} |
| answered after one more try | {recovered} of {retried} |
| success ratio as the user meets it: answered at once or at the one retry | **{user_percent:.3f} %** |
| time to the whole answer, p50 / p95 / p99 / longest | \
{p50_ms:.0f} / {p95_ms:.0f} / {p99_ms:.0f} / {longest_ms:.0f} ms |
| time to the first piece, p50 / p95 | {first_p50_ms:.0f} / {first_p95_ms:.0f} ms |

A request is one completion as the language server asks for it (to the end of the line, at most {max_tokens} tokens,
streamed). The one retry is what the next key stroke does: after `Retry-After` where the service named a time, else at
once. Requests that a newer one of their document ended are not counted ({superseded}).
"""


async def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="midfill-drill-") as folder:
        print("starting the cluster", flush=True)
        with Cluster(Path(folder) / "state") as cluster:
            figures = await drill(cluster, options)
    figures["command"] = f"python -m tests.deploy.availability_drill {shlex.join(arguments or sys.argv[1:])}".strip()
    page = _PAGE.format(**figures)
    print(page)
    if options.report:
        Path(f"{options.report}.json").write_text(json.dumps(figures, indent=2) + "\n")
        Path(f"{options.report}.md").write_text(page)
    return 0 if figures["user_percent"] >= options.least else 1


async def drill(cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of the report."""
    key = cluster.new_key("drill")
    await asyncio.sleep(KEYS_KNOWN_S)
    cluster.supervise()
    async with Editors(cluster.url, cluster.certificate, key, options.editors, options.pause) as editors:
        await editors.answers(WARM_UP_ANSWERS)
        for editor in editors.editors:
            editor.outcomes.clear()
        began, start, cpu = datetime.now(UTC), time.monotonic(), _busy_s()
        kills = await _kill(cluster, editors, start + 60 * options.minutes, options.kill_every)
        load = (_busy_s() - cpu) / (time.monotonic() - start)
    return {
        "began": f"{began:%Y-%m-%d %H:%MZ}",
        "minutes": options.minutes,
        "editors": options.editors,
        "kill_every": options.kill_every,
        "kills": len(kills),
        "ready_s": f"{min(kills):.0f} to {max(kills):.0f}" if kills else "-",
        "load": load,
        "commit": record.commit(),
        "machine": record.machine(),
        "max_tokens": editors.editors[0].max_tokens,
        **evaluate(editors.outcomes),
    }


def evaluate(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Ratios and times of the requests that nothing newer ended; percents and milliseconds."""
    first = [one for one in outcomes if not one.retry]
    again = [one for one in outcomes if one.retry]
    kinds, recovered = counts(first), counts(again)["answered"]
    requests = len(first) - kinds["superseded"]
    whole = sorted(one.seconds for one in first if one.kind == "answered")
    pieces = sorted(one.first_s for one in first if one.kind == "answered" and one.first_s is not None)
    return {
        "requests": requests,
        **{kind: kinds[kind] for kind in ("answered", "refused", "cut", "failed", "superseded")},
        "retried": len(again),
        "recovered": recovered,
        "strict_percent": 100 * kinds["answered"] / requests,
        "user_percent": 100 * (kinds["answered"] + recovered) / requests,
        **{f"p{percent}_ms": 1000 * _percentile(whole, percent) for percent in (50, 95, 99)},
        "longest_ms": 1000 * _percentile(whole, 100),
        **{f"first_p{percent}_ms": 1000 * _percentile(pieces, percent) for percent in (50, 95)},
        "why": sorted({one.why for one in outcomes if one.why})[:20],
    }


async def _kill(cluster: Cluster, editors: Editors, until: float, every_s: float) -> list[float]:
    """Kill one replica after the other until the time is over; the seconds until each was ready again."""
    kills: list[float] = []
    waiting: list[asyncio.Task[None]] = []

    async def back(replica: Any, killed: float) -> None:
        while not await asyncio.to_thread(lambda: replica.running and replica.ready):
            await asyncio.sleep(0.1)
        kills.append(time.monotonic() - killed)
        print(f"  {replica.name} is back after {kills[-1]:.1f} s", flush=True)

    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(every_s, left))
        if time.monotonic() >= until:
            break
        replica = cluster.replicas[len(waiting) % len(cluster.replicas)]
        print(f"{datetime.now(UTC):%H:%M:%S} {dict(counts(editors.outcomes))}; killing {replica.name}", flush=True)
        await asyncio.to_thread(replica.kill)
        waiting.append(asyncio.create_task(back(replica, time.monotonic())))
    await asyncio.gather(*waiting)
    return kills


def _percentile(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def _busy_s() -> float:
    """Seconds of processor time that the whole machine has spent so far."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Kill replicas under typing load and count what was answered.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill-every", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--editors", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="mean pause between two requests")
    parser.add_argument("--least", type=float, default=99.9, metavar="PERCENT", help="exit 1 when users met less")
    parser.add_argument("--report", metavar="PATH", help="write PATH.json and PATH.md")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster goes with it, as after Ctrl-C
    sys.exit(asyncio.run(main()))
