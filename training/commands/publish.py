"""midfill-train publish"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from training.commands.stages import Stages, corpus_option, data_option, path_option


def add(stages: Stages) -> None:
    parser = stages.add(
        "publish", _run, "quantize, check and write a model directory", "nano --run .runs/nano --out my-model"
    )
    parser.add_argument("recipe", help="the recipe that was trained")
    path_option(parser, "--run", ".runs/nano", "folder with the checkpoint")
    data_option(parser)
    corpus_option(parser)
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")


def _run(args: argparse.Namespace) -> None:
    from training.publish import publish
    from training.recipe import load_recipe

    evaluation = publish(load_recipe(args.recipe), args.run, args.data, args.corpus, args.out)
    print(json.dumps(asdict(evaluation), indent=1))
