"""midfill-train prepare"""

from __future__ import annotations

import argparse
import os

from training.commands.stages import Stages, corpus_option, data_option, shard_option


def add(stages: Stages) -> None:
    parser = stages.add("prepare", _run, "tokenize the corpus into shards", "--corpus .runs/corpus --data .runs/data")
    corpus_option(parser)
    data_option(parser)
    shard_option(parser, "do part i of n of the work; once all are done, in any order, the data set is whole")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes (default: one a core, {cores})")
    parser.add_argument(
        "--verify", action="store_true", help="write nothing, only compare the checksums of what was prepared"
    )


def _run(args: argparse.Namespace) -> None:
    from training.corpus.split import SPLITS
    from training.shards import load_tokenizer, prepare, verify_split

    tokenizer = load_tokenizer(args.data)
    for split in SPLITS:
        if args.verify:
            print(f"{split}: {verify_split(args.data, split, tokenizer):,} tokens, as they were written")
        elif manifest := prepare(args.corpus, split, tokenizer, args.data, workers=args.workers, part=args.shard):
            print(f"{split}: {manifest.tokens:,} tokens of {manifest.documents:,} files")
        else:
            print(f"{split}: this part is done, others are not yet")
