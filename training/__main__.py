"""midfill-train: one sub-command a stage."""

from __future__ import annotations

import argparse
import sys

from training.commands import collect, distill, evaluate, export, prepare, prune, publish, quantize, tokenizer, train
from training.commands.stages import Stages


def main() -> None:
    parser = argparse.ArgumentParser(prog="midfill-train", description="Train a completion model, one stage at a time.")
    stages = Stages(parser)
    for command in (collect, tokenizer, prepare, train, evaluate, quantize, prune, distill, export, publish):
        command.add(stages)
    args = parser.parse_args()
    try:
        args.run_stage(args)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "training", "inference_service"):
            raise
        extra = "export" if args.stage == "export" else "train"
        sys.exit(f'midfill-train {args.stage}: {error.name} is not installed: pip install "midfill[{extra}]"')
    except (ValueError, FloatingPointError, OSError) as error:
        # the stages raise ValueErrors whose message says what to do
        sys.exit(f"midfill-train {args.stage}: {error}")


if __name__ == "__main__":
    main()
