"""midfill-train publish"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.stages import Stages, corpus_option, data_option, run_folder


def add(stages: Stages) -> None:
    parser = stages.add(
        "publish", _run, "quantize, check and write a model directory", "nano --run .runs/nano --out my-model"
    )
    parser.add_argument("recipe", help="the recipe that was trained")
    parser.add_argument("--run", type=Path, help="folder with the checkpoint (default .runs/RECIPE)")
    data_option(parser)
    corpus_option(parser)
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the card, may be given again")
    parser.add_argument("--holes", type=int, default=300, help="places of a kind to fill in (default 300)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1, enough for small models)")


def _run(args: argparse.Namespace) -> None:
    import torch

    from training.evaluate.report import figures_table
    from training.publish import publish

    run = args.run or run_folder(args.recipe)
    if args.threads:
        torch.set_num_threads(args.threads)
    published = publish(args.recipe, run, args.data, args.corpus, args.out, args.note, args.holes)
    print(figures_table({"float32": published.float32, "int8": published.served}), end="")
    print(f"{args.out} written")
