"""midfill-train: one sub-command a stage."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.corpus.sources import Source

# imports of the stages are inside their functions: `--help` must not wait for torch


def _collect(args: argparse.Namespace) -> None:
    from training.corpus.collect import collect, pypi_sources, read_package_list
    from training.corpus.sources import folder_source, standard_library

    report: Counter[str] = Counter()

    def sources() -> Iterator[Source]:
        if args.stdlib:
            yield standard_library()
        for folder in args.folder:
            yield folder_source(folder, folder.resolve().name, "0", args.licence)
        names = list(itertools.chain.from_iterable(read_package_list(path) for path in args.packages))
        yield from pypi_sources(names, args.cache, report)

    print(json.dumps(collect(sources(), args.out) | report, indent=1))


def _tokenizer(args: argparse.Namespace) -> None:
    from training.tokenizer import train_tokenizer

    args.data.mkdir(parents=True, exist_ok=True)
    train_tokenizer(args.corpus, args.vocab_size).save(args.data / "tokenizer.tiktoken")
    print(f"{args.data / 'tokenizer.tiktoken'} written")


def _prepare(args: argparse.Namespace) -> None:
    from inference_service.model.tokenizer import Tokenizer
    from training.corpus.collect import SPLITS
    from training.shards import prepare

    tokenizer = Tokenizer.load(args.data / "tokenizer.tiktoken")
    for split in SPLITS:
        print(f"{split}: {prepare(args.corpus, split, tokenizer, args.data):,} tokens")


def _train(args: argparse.Namespace) -> None:
    from training.recipe import load_recipe
    from training.train import train

    train(
        load_recipe(args.recipe),
        args.data,
        args.out,
        device=args.device,
        threads=args.threads,
        compiled=not args.eager,
    )


def _evaluate(args: argparse.Namespace) -> None:
    from inference_service.model import directory
    from inference_service.model.quantize import use_int8_linears
    from training.publish import evaluate

    loaded = directory.load(args.model)
    served = loaded.build_float()
    use_int8_linears(served, loaded.int8)
    print(json.dumps(asdict(evaluate(served, loaded.tokenizer, args.data)), indent=1))


def _publish(args: argparse.Namespace) -> None:
    from training.publish import publish
    from training.recipe import load_recipe

    evaluation = publish(load_recipe(args.recipe), args.run, args.data, args.corpus, args.out)
    print(json.dumps(asdict(evaluation), indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="midfill-train", description="Train a completion model, one stage at a time.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(name: str, run: Callable[[argparse.Namespace], None], does: str, example: str) -> argparse.ArgumentParser:
        added = stages.add_parser(name, help=does, description=does, epilog=f"example: midfill-train {name} {example}")
        added.set_defaults(run_stage=run)
        return added

    def path(to: argparse.ArgumentParser, name: str, default: str, about: str) -> None:
        to.add_argument(name, type=Path, default=Path(default), help=f"{about} (default {default})")

    collect = stage(
        "collect",
        _collect,
        "gather permissively licensed Python",
        "--stdlib --packages list.txt --out .runs/corpus",
    )
    collect.add_argument("--stdlib", action="store_true", help="take the running Python's standard library")
    collect.add_argument(
        "--packages", type=Path, action="append", default=[], help="file with names of packages on the index"
    )
    collect.add_argument("--folder", type=Path, action="append", default=[], help="folder of your own code")
    collect.add_argument(
        "--licence", default="proprietary, used by its owner", help="what the manifest says of your folders"
    )
    path(collect, "--cache", ".runs/sdists", "where downloads are kept")
    path(collect, "--out", ".runs/corpus", "corpus folder to write")

    tokenizer = stage("tokenizer", _tokenizer, "train the byte-level BPE", "--corpus .runs/corpus --data .runs/data")
    tokenizer.add_argument(
        "--vocab-size", type=int, default=16384, help="ids in total, sentinels included (default 16384)"
    )
    prepare = stage("prepare", _prepare, "tokenize the corpus into shards", "--corpus .runs/corpus --data .runs/data")
    for each in (tokenizer, prepare):
        path(each, "--corpus", ".runs/corpus", "corpus folder")
        path(each, "--data", ".runs/data", "folder of tokenizer and shards")

    train = stage(
        "train",
        _train,
        "train a recipe, resuming where it stopped",
        "nano --data .runs/data --out .runs/nano",
    )
    train.add_argument("recipe", help="name of a bundled recipe, or a .toml file")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    train.add_argument("--threads", type=int, default=0, help="threads a process (default: torch's choice)")
    train.add_argument("--eager", action="store_true", help="do not compile: starts at once, runs slower")
    path(train, "--data", ".runs/data", "folder of tokenizer and shards")
    path(train, "--out", ".runs/nano", "folder for checkpoint and log")

    evaluate = stage("evaluate", _evaluate, "measure a model directory on held-out packages", "MODEL --data .runs/data")
    evaluate.add_argument("model", type=Path, help="model directory")
    path(evaluate, "--data", ".runs/data", "folder of tokenizer and shards")

    publish = stage(
        "publish",
        _publish,
        "quantize, check and write a model directory",
        "nano --run .runs/nano --out my-model",
    )
    publish.add_argument("recipe", help="the recipe that was trained")
    path(publish, "--run", ".runs/nano", "folder with the checkpoint")
    path(publish, "--data", ".runs/data", "folder of tokenizer and shards")
    path(publish, "--corpus", ".runs/corpus", "corpus folder (its manifest goes into the card)")
    publish.add_argument("--out", type=Path, required=True, help="model directory to write")
    return parser


def main() -> None:
    args = _parser().parse_args()
    try:
        args.run_stage(args)
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again to go on")
    except (ValueError, FloatingPointError, OSError) as error:
        # the stages raise ValueErrors whose message says what to do
        sys.exit(f"midfill-train {args.stage}: {error}")


if __name__ == "__main__":
    main()
