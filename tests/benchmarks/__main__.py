"""Benchmarks one after the other, each a process of its own, and then the pages' tables of what they wrote.

    python -m tests.benchmarks [--full | --only NAME ...]

One that lacks something, fails or hangs does not stop the others: the run ends with a list of what was not measured,
and with status 1 where that is not empty.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from tests.benchmarks import record

ROOT = record.RESULTS.parents[2]


@dataclass(frozen=True, slots=True)
class Part:
    """`minutes` are what it takes on two idle cores; after three times as long and some more it is ended."""

    name: str
    minutes: float
    options: str = ""


SHORT = (
    Part("lsp", 1),
    Part("engine", 1),
    Part("peers", 3, "--rounds 2"),
    Part("service", 3, "--seconds 6"),
    Part("replay", 2, "--requests 50 --seconds 8"),
)
FULL = (
    Part("lsp", 1),
    Part("lsp_peers", 3),
    Part("lsp_waste", 5),
    Part("engine", 1),
    Part("speculation", 1),
    Part("peers", 4),
    Part("replay", 4),
    Part("service", 6),
    Part("overhead", 2),
    Part("quality", 12),
    Part("confidence", 1),
    Part("drift", 10, "--steps 20 --pieces 30 --holes 60"),
    Part("train", 5),
    Part("ddp", 3, "--steps 40 --repeats 1"),
    Part("tokenizer", 2),
    Part("data", 2),
)


def measure(part: Part, results: str) -> tuple[float, str]:
    """Runs the part; seconds, and why it did not measure all that it should, empty if it did."""
    options = [*shlex.split(part.options), "--results", results]
    command = [sys.executable, "-m", f"tests.benchmarks.bench_{part.name}", *options]
    return run(command, shlex.join(command[1:-2]), 3 * part.minutes + 5)


def run(command: list[str], title: str, minutes: float) -> tuple[float, str]:
    """As `measure`, of any command that may take so many minutes; its last word on stderr is why it failed."""
    print(f"\n== {title}", flush=True)
    began, limit, told = time.monotonic(), 60 * minutes, ""
    # a group of its own, so that what it has started ends with it
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    assert process.stderr is not None
    timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            told = line.strip() or told
        status = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        timer.cancel()
    took = time.monotonic() - began
    if took >= limit:
        return took, f"ended after {limit / 60:.0f} minutes"
    return took, "" if status == 0 else told.removeprefix("not measured: ") or f"exit status {status}"


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="all that need no GPU, not only the short ones")
    names = [part.name for part in FULL]
    parser.add_argument("--only", action="append", choices=names, help="of all, this one; may be given several times")
    args = parser.parse_args()
    parts = [part for part in FULL if part.name in args.only] if args.only else FULL if args.full else SHORT
    outcomes = {part.name: measure(part, str(args.results.resolve())) for part in parts}
    if args.results == record.RESULTS:
        outcomes["the pages' tables"] = run([sys.executable, "-m", "tools.figures"], "-m tools.figures", 5)
    print("\n| benchmark | minutes | not measured |\n|---|---|---|")
    for name, (seconds, problem) in outcomes.items():
        print(f"| {name} | {seconds / 60:.1f} | {problem} |")
    minutes = sum(seconds for seconds, _ in outcomes.values()) / 60
    failed = [name for name, (_, problem) in outcomes.items() if problem]
    print(f"\n{minutes:.1f} minutes in all; not measured: {', '.join(failed) or 'nothing is missing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
