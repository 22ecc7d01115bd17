"""midfill-train train"""

from __future__ import annotations

import argparse

from training.commands.stages import Stages, data_option, path_option


def add(stages: Stages) -> None:
    parser = stages.add(
        "train", _run, "train a recipe, resuming where it stopped", "nano --data .runs/data --out .runs/nano"
    )
    parser.add_argument("recipe", help="name of a bundled recipe, or a .toml file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="threads a process (default: torch's choice)")
    parser.add_argument("--eager", action="store_true", help="do not compile: starts at once, runs slower")
    data_option(parser)
    path_option(parser, "--out", ".runs/nano", "folder for checkpoint and log")


def _run(args: argparse.Namespace) -> None:
    from training.recipe import load_recipe
    from training.train import train

    train(
        load_recipe(args.recipe),
        args.data,
        args.out,
        device=args.device,
        threads=args.threads,
        compiled=not args.eager,
    )
