"""midfill-train train"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from training.commands.stages import Stages, data_option, run_folder


def add(stages: Stages) -> None:
    parser = stages.add(
        "train",
        _run,
        "train a recipe, resuming where it stopped; many processes under torchrun",
        "nano --data .runs/data --out .runs/nano",
    )
    parser.add_argument("recipe", help="name of a bundled recipe, or a .toml file")
    parser.add_argument("--init", type=Path, help="model directory that a finetune recipe starts from")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="threads a process (default: torch's choice)")
    parser.add_argument("--eager", action="store_true", help="do not compile: starts at once, runs slower")
    data_option(parser)
    parser.add_argument("--out", type=Path, help="folder for checkpoint and logs (default .runs/RECIPE)")


def _run(args: argparse.Namespace) -> None:
    from training.interrupt import Interrupted
    from training.recipe import load_recipe
    from training.train import train

    try:
        train(
            load_recipe(args.recipe, args.init),
            args.data,
            args.out or run_folder(args.recipe),
            device=args.device,
            threads=args.threads,
            compiled=not args.eager,
        )
    except Interrupted as interrupted:
        if os.environ.get("RANK", "0") == "0":
            print(interrupted, file=sys.stderr)
        sys.exit(interrupted.exit_code)
