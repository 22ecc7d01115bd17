"""midfill-train prepare"""

from __future__ import annotations

import argparse

from training.commands.stages import Stages, corpus_option, data_option


def add(stages: Stages) -> None:
    parser = stages.add("prepare", _run, "tokenize the corpus into shards", "--corpus .runs/corpus --data .runs/data")
    corpus_option(parser)
    data_option(parser)


def _run(args: argparse.Namespace) -> None:
    from inference_service.model.tokenizer import Tokenizer
    from training.corpus.collect import SPLITS
    from training.shards import prepare

    tokenizer = Tokenizer.load(args.data / "tokenizer.tiktoken")
    for split in SPLITS:
        print(f"{split}: {prepare(args.corpus, split, tokenizer, args.data):,} tokens")
