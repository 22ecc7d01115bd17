"""midfill-train tokenizer"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.stages import Stages, corpus_option, data_option

if TYPE_CHECKING:
    from inference_service.model.tokenizer import Tokenizer


def add(stages: Stages) -> None:
    parser = stages.add("tokenizer", _run, "train the byte-level BPE", "--corpus .runs/corpus --data .runs/data")
    parser.add_argument(
        "--vocab-size", type=int, default=16384, help="ids in total, sentinels included (default 16384)"
    )
    parser.add_argument(
        "--init", type=Path, help="train nothing, take the tokenizer of the model directory that a recipe starts from"
    )
    parser.add_argument(
        "--report", action="store_true", help="train nothing, only print bytes per token beside gpt2 and cl100k"
    )
    corpus_option(parser)
    data_option(parser)


def _run(args: argparse.Namespace) -> None:
    from training.documents import BadDocuments
    from training.shards import load_tokenizer
    from training.tokenizer_report import report

    if not args.report:
        args.data.mkdir(parents=True, exist_ok=True)
        path = args.data / "tokenizer.tiktoken"
        partial = path.with_suffix(".partial")
        _made(args).save(partial)
        partial.replace(path)
        print(f"{path} written")
    try:
        print(report({"this one": load_tokenizer(args.data)}, args.corpus))
    except BadDocuments as problem:
        if args.report:
            raise
        print(f"not measured: {problem}", file=sys.stderr)  # the tokenizer is there all the same


def _made(args: argparse.Namespace) -> Tokenizer:
    if args.init:
        from inference_service.model.loading import load

        return load(args.init).tokenizer
    from training.tokenizer import train_tokenizer

    return train_tokenizer(args.corpus, args.vocab_size)
