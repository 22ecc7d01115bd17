"""What quantize, prune and distill have in common: their model, their gate, and how they tell the result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.stages import data_option

if TYPE_CHECKING:
    from training.compress.gate import Gate
    from training.compress.release import Compressed
    from training.compress.source import Source


def model_options(to: argparse.ArgumentParser, what: str) -> None:
    """The model, where its compressed form goes, and a gate other than the stage's own."""
    to.add_argument("model", help=f"{what}: run folder (float weights), model directory, or name of a bundled model")
    to.add_argument("--recipe", help="the run's recipe, where its folder holds none")
    data_option(to)
    to.add_argument("--out", type=Path, required=True, help="model directory to write")
    gate = to.add_argument_group("drift gate, against the float model", "beyond it nothing is written")
    for name, about in (
        ("--max-growth", "of bits per byte, left to right and FIM"),
        ("--min-agreement", "of positions with the same first choice"),
        ("--max-fall", "of lines that are no longer filled in exactly"),
    ):
        gate.add_argument(name, type=float, metavar="SHARE", help=about)


def device_option(to: argparse.ArgumentParser) -> None:
    to.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what trains (default cpu)")


def open_model(args: argparse.Namespace) -> Source:
    """The source, after a look at whether the output may be written. Raises BadOutput, and like `open_source`."""
    from training.compress.source import open_source
    from training.model_output import check_output

    check_output(args.out)
    return open_source(args.model, args.data, args.recipe)


def release(
    args: argparse.Namespace, source: Source, compressed: Compressed, gate: Gate, others: Sequence[Compressed] = ()
) -> None:
    """Gate and write the compressed model; print the table and a line of JSON. `gate` is what the options lack."""
    from training.compress import release as stage
    from training.compress.drift import HeldOut
    from training.compress.table import markdown

    given = {"bits_per_byte": args.max_growth, "top1_agreement": args.min_agreement, "exact_match": args.max_fall}
    gate = replace(gate, **{name: value for name, value in given.items() if value is not None})
    held = HeldOut.open(args.data, source.tokenizer)
    print(f"measuring on {len(held.pieces)} windows and {len(held.holes)} lines of held-out packages", file=sys.stderr)
    rows = stage.release(source, compressed, held, gate, args.out, others)
    print(markdown(rows))
    print(json.dumps({"out": str(args.out), "gate": asdict(gate), "rows": [row.values() for row in rows]}))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ends the process with the signal's exit code after an orderly stop."""
    from training.interrupt import Interrupted

    try:
        yield
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(interrupted.exit_code)
