"""midfill-train quantize"""

from __future__ import annotations

import argparse
import sys

from training.commands.compression import model_options, open_model, release
from training.commands.stages import Stages


def add(stages: Stages) -> None:
    parser = stages.add(
        "quantize", _run, "round a model's weights to int8 or int4", ".runs/nano --bits 4 --out .runs/nano-int4"
    )
    model_options(parser, "model to quantize")
    parser.add_argument("--bits", type=int, choices=(8, 4), required=True, help="errors are compensated (GPTQ)")
    parser.add_argument("--group", type=int, choices=(32, 64), default=32, help="int4 weights a scale (default 32)")


def _run(args: argparse.Namespace) -> None:
    from training.compress import gate
    from training.compress.quantize import int4_gptq, int4_nearest, int8, int8_nearest

    def tell(part: str) -> None:
        print(f"GPTQ: {part}", file=sys.stderr)

    source = open_model(args)
    if args.bits == 8:
        release(args, source, int8(source, args.data, tell), gate.INT8, [int8_nearest(source)])
    else:
        compensated = int4_gptq(source, args.group, args.data, tell)
        release(args, source, compensated, gate.INT4, [int4_nearest(source, args.group)])
