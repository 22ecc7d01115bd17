"""How a stage registers itself: its imports are inside its functions, for `--help` must not wait for torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


class Stages:
    """The sub-commands of one parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def add(
        self, name: str, run: Callable[[argparse.Namespace], None], does: str, example: str
    ) -> argparse.ArgumentParser:
        """A sub-command that `does` something, with an example in its help; the caller adds its arguments."""
        added = self._subparsers.add_parser(
            name, help=does, description=does, epilog=f"example: midfill-train {name} {example}"
        )
        added.set_defaults(run_stage=run)
        return added


def path_option(to: argparse.ArgumentParser, name: str, default: str, about: str) -> None:
    """A path with a default that the help tells."""
    to.add_argument(name, type=Path, default=Path(default), help=f"{about} (default {default})")


def corpus_option(to: argparse.ArgumentParser) -> None:
    path_option(to, "--corpus", ".runs/corpus", "corpus folder")


def data_option(to: argparse.ArgumentParser) -> None:
    path_option(to, "--data", ".runs/data", "folder of tokenizer and shards")


def run_folder(recipe: str) -> Path:
    """Where a training of the recipe, a name or a file, lies unless the command says otherwise."""
    return Path(".runs") / Path(recipe).stem


def shard_option(to: argparse.ArgumentParser, about: str) -> None:
    """`--shard i/n`: which part of the work is this process's, i from 0 as in a Kubernetes indexed Job."""
    to.add_argument("--shard", type=_shard, default=(0, 1), metavar="i/n", help=f"{about} (default 0/1)")


def _shard(text: str) -> tuple[int, int]:
    try:
        part, parts = map(int, text.split("/"))
    except ValueError:
        part, parts = 0, 0
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a whole: the parts of 8 are 0/8 to 7/8")
    return part, parts
