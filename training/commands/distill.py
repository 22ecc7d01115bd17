"""midfill-train distill"""

from __future__ import annotations

import argparse

from training.commands.compression import device_option, interruptible, model_options, open_model, release
from training.commands.stages import Stages, path_option


def add(stages: Stages) -> None:
    parser = stages.add(
        "distill",
        _run,
        "train a smaller model on a model's logits, resuming where it stopped",
        ".runs/small --student nano --out .runs/small-distilled",
    )
    model_options(parser, "teacher")
    parser.add_argument("--student", required=True, help="recipe of the student: architecture, data, schedule")
    path_option(parser, "--run", ".runs/distill", "folder for the checkpoint")
    parser.add_argument("--temperature", type=float, default=2.0, help="of both models' logits (default 2)")
    parser.add_argument(
        "--soft-share", type=float, default=0.7, help="of the loss, the rest is the text's tokens (default 0.7)"
    )
    device_option(parser)


def _run(args: argparse.Namespace) -> None:
    from training.compress.distill import distill
    from training.compress.gate import DISTILLED
    from training.recipe import load_recipe

    recipe = load_recipe(args.student)
    teacher = open_model(args)
    with interruptible():
        student, source = distill(
            teacher,
            recipe,
            args.data,
            args.run,
            temperature=args.temperature,
            soft_share=args.soft_share,
            device=args.device,
        )
    release(args, source, student, DISTILLED)
