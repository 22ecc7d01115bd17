"""The service beside llama.cpp's server while people type: the same random weights, the same editors, one at a time.

Goodput is the share of all requests whose first text came within 100 ms; the others came later, were refused, or were
given up because the next key was pressed. Percentiles are of those that had a first text. Wasted are the pieces of text
that arrived for requests that were then given up. Prints a table and writes a result.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import record
from tests.benchmarks.servers import NAMES, SHAPE, Server, write_weights
from tests.benchmarks.typing_load import type_together

GOOD_S = 0.1


def measure(name: str, folder: Path, threads: int, editors: int, seconds: float) -> tuple[dict[str, Any], str]:
    """The figures of one server under one load, and what it says of its kernels."""
    server = Server(name, folder, threads, editors)
    try:
        before = server.cpu_seconds()
        outcome = asyncio.run(type_together(server.port, editors, seconds))
        spent = server.cpu_seconds() - before
    finally:
        server.close()
    first = np.array(outcome.first or [np.nan])
    good = int((first <= GOOD_S).sum())
    return {
        "asked": outcome.asked,
        "refused": outcome.refused,
        "answered": len(outcome.first),
        "goodput": good / outcome.asked,
        **{f"ttft_p{p}_ms": float(np.percentile(first, p)) * 1e3 for p in (50, 95, 99)},
        "wasted_tokens": outcome.wasted / max(outcome.pieces, 1),
        "cpu_ms_per_good": 1e3 * spent / good if good else None,
    }, server.system


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--editors", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument("--seconds", type=float, default=20.0, help="of typing, for each server and number of editors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "midfill-service")
    args = parser.parse_args()
    write_weights(args.work, **SHAPE)
    rows: dict[str, dict[str, Any]] = {}
    kernels = {}
    print("| editors | server | goodput | p50 ms | p95 ms | p99 ms | wasted | refused |")
    print("|---" * 8 + "|")
    for editors in args.editors:
        for name in NAMES:
            row, kernels[name] = measure(name, args.work, args.threads, editors, args.seconds)
            rows.setdefault(str(editors), {})[name] = row
            times = " | ".join(f"{row[f'ttft_p{p}_ms']:.1f}" for p in (50, 95, 99))
            shares = f"{row['wasted_tokens']:.0%} | {row['refused']}"
            print(f"| {editors} | {name} | {row['goodput']:.0%} | {times} | {shares} |", flush=True)
    figures = {"editors": rows, "seconds": args.seconds, "threads": args.threads, "shape": SHAPE, "kernels": kernels}
    record.write("service", figures, args.results)


if __name__ == "__main__":
    main()
