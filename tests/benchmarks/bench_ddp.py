"""One process on one core beside two processes (torchrun, gloo) with a core each, on the same recipe.

Prints tokens/s, their ratio and how far the loss curves part, as a table, and writes a result. Wants an idle machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import record


def worker(args: argparse.Namespace) -> None:
    """One rank, with one thread, kept on one core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ.get("LOCAL_RANK", 0))]})

    from training.recipe import load_recipe
    from training.train import train

    recipe = load_recipe(args.recipe)
    shorter = {"total_tokens": args.steps * recipe.train.batch_tokens, "checkpoint_minutes": 1e9}
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **shorter))
    train(recipe, args.data, args.worker, threads=1, compiled=not args.eager)


def run(args: argparse.Namespace, processes: int) -> list[dict[str, Any]]:
    """The log of a training by that many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if processes == 2 else []
    with tempfile.TemporaryDirectory() as folder:
        print(f"{processes} process{'es'[: 2 * (processes - 1)]}, {args.steps} steps", file=sys.stderr)
        subprocess.run(
            [sys.executable, *launcher, "-m", "tests.benchmarks.bench_ddp", "--worker", folder, *sys.argv[1:]],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--steps", type=int, default=60, help="of each run; the rate is that of the last 20")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs two cores")
    record.need(args.data)
    logs: dict[int, list[list[dict[str, Any]]]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for processes, collected in logs.items():
            collected.append(run(args, processes))
    rates = {count: statistics.median(log[-1]["tokens_per_s"] for log in some) for count, some in logs.items()}
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(logs[1][0], logs[2][0], strict=True))
    figures = {
        "recipe": args.recipe,
        "steps": args.steps,
        "repeats": args.repeats,
        "compiled": not args.eager,
        "tokens_per_s": rates,
        "ratio": rates[2] / rates[1],
        "largest_loss_difference": apart,
        "last_loss": logs[1][0][-1]["loss"],
    }
    print(f"| {args.recipe}, {args.steps} steps | 1 process, 1 core | 2 processes, 1 core each | |")
    print("|---|---|---|---|")
    print(f"| tokens/s, median of {args.repeats} | {rates[1]:,.0f} | {rates[2]:,.0f} | {figures['ratio']:.2f}x |")
    print(f"| loss after the last step | {logs[1][0][-1]['loss']:.4f} | {logs[2][0][-1]['loss']:.4f} | |")
    print(f"| largest difference of a step's loss | | | {apart:.1e} |")
    record.write("ddp", figures, args.results)


if __name__ == "__main__":
    main()
