"""midfill-train prune"""

from __future__ import annotations

import argparse

from training.commands.compression import device_option, interruptible, model_options, open_model, release
from training.commands.stages import Stages


def add(stages: Stages) -> None:
    parser = stages.add(
        "prune",
        _run,
        "zero the smallest weights of a model's blocks",
        ".runs/nano --sparsity 0.5 --recover-steps 200 --out .runs/nano-pruned",
    )
    model_options(parser, "model to prune")
    parser.add_argument(
        "--pattern", choices=("magnitude", "2:4"), default="magnitude", help="which weights go (default magnitude)"
    )
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of the weights that go (default 0.5)")
    parser.add_argument(
        "--recover-steps", type=int, default=0, help="steps of 4,096 tokens that train what is left (default 0)"
    )
    device_option(parser)


def _run(args: argparse.Namespace) -> None:
    from training.compress.gate import PRUNED
    from training.compress.prune import prune

    source = open_model(args)
    with interruptible():
        pruned = prune(
            source,
            args.data,
            sparsity=args.sparsity,
            two_of_four=args.pattern == "2:4",
            recover_steps=args.recover_steps,
            device=args.device,
        )
    release(args, source, pruned, PRUNED)
