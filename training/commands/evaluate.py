"""midfill-train evaluate"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from training.commands.stages import Stages, data_option


def add(stages: Stages) -> None:
    parser = stages.add("evaluate", _run, "measure a model directory on held-out packages", "MODEL --data .runs/data")
    parser.add_argument("model", type=Path, help="model directory")
    data_option(parser)


def _run(args: argparse.Namespace) -> None:
    from inference_service.model import directory
    from inference_service.model.quantize import use_int8_linears
    from training.publish import evaluate

    loaded = directory.load(args.model)
    served = loaded.build_float()
    use_int8_linears(served, loaded.int8)
    print(json.dumps(asdict(evaluate(served, loaded.tokenizer, args.data)), indent=1))
