"""midfill-train tokenizer"""

from __future__ import annotations

import argparse

from training.commands.stages import Stages, corpus_option, data_option


def add(stages: Stages) -> None:
    parser = stages.add("tokenizer", _run, "train the byte-level BPE", "--corpus .runs/corpus --data .runs/data")
    parser.add_argument(
        "--vocab-size", type=int, default=16384, help="ids in total, sentinels included (default 16384)"
    )
    corpus_option(parser)
    data_option(parser)


def _run(args: argparse.Namespace) -> None:
    from training.tokenizer import train_tokenizer

    args.data.mkdir(parents=True, exist_ok=True)
    train_tokenizer(args.corpus, args.vocab_size).save(args.data / "tokenizer.tiktoken")
    print(f"{args.data / 'tokenizer.tiktoken'} written")
