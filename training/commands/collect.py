"""midfill-train collect"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.stages import Stages, path_option, shard_option

if TYPE_CHECKING:
    from training.corpus.shard import Shard
    from training.corpus.sources import NotUsable, Source


def add(stages: Stages) -> None:
    parser = stages.add(
        "collect", _run, "gather Python to train on, without duplicates and secrets", "--folder . --out .runs/corpus"
    )
    sources = parser.add_argument_group("sources")
    sources.add_argument(
        "--folder", type=Path, action="append", default=[], help="your own code; of a git checkout, what git tracks"
    )
    sources.add_argument(
        "--hold-out", type=Path, action="append", default=[], metavar="FOLDER",
        help="your own code that is not trained on but measured on; of packages the name decides which those are",
    )  # fmt: skip
    sources.add_argument(
        "--checkout", type=Path, action="append", default=[], help="git checkout of other people's permissive code"
    )
    sources.add_argument(
        "--packages", type=Path, action="append", default=[], help="file with names of packages on the index"
    )
    sources.add_argument("--stdlib", action="store_true", help="the running Python's standard library")
    parser.add_argument("--licence", help="of your folders and checkouts (default: what their metadata names)")
    parser.add_argument(
        "--decontaminate", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="benchmark files (.jsonl or text): documents that share 10 words in a row with one stay out",
    )  # fmt: skip
    shard_option(parser, "take part i of n of the sources, into a folder of its own in --out")
    parser.add_argument("--merge", action="store_true", help="only make one corpus of all shards in --out")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes (default: one a core, {cores})")
    path_option(parser, "--cache", ".runs/sdists", "where downloads are kept and taken from")
    path_option(parser, "--out", ".runs/corpus", "corpus folder to write")


def _run(args: argparse.Namespace) -> None:
    from training.corpus.collect import collect
    from training.corpus.contamination import read_benchmarks
    from training.corpus.shard import Shard, merge

    if args.merge:
        print(json.dumps(merge(args.out), indent=1))
        return
    shard = Shard(*args.shard)
    expected, sources = _sources(args, shard)
    benchmarks = read_benchmarks(args.decontaminate)
    counts = collect(
        sources, shard.folder(args.out), benchmarks, max(1, args.workers), expected, may_be_empty=shard.count > 1
    )
    print(json.dumps(counts, indent=1))


def _sources(args: argparse.Namespace, shard: Shard) -> tuple[int, Iterator[Source | NotUsable]]:
    """How many sources the shard has, and the sources. A mistake in a path or list is told before any work."""
    from training.corpus.checkouts import checkout_source, own_source
    from training.corpus.folders import standard_library
    from training.corpus.package_index import package_sources, read_package_list
    from training.corpus.sources import NoLicence, NotUsable
    from training.corpus.split import STANDARD_LIBRARY

    if not (args.folder or args.hold_out or args.checkout or args.packages or args.stdlib):
        raise NotUsable("no source given: use --folder, --hold-out, --checkout, --packages or --stdlib")
    names = dict.fromkeys(name for path in args.packages for name in read_package_list(path) if shard.takes(name))
    local: list[Source | NotUsable] = []
    if args.stdlib and shard.takes(STANDARD_LIBRARY):
        local.append(standard_library())
    local += [own_source(folder, args.licence) for folder in args.folder if shard.takes(folder.resolve().name)]
    local += [
        replace(own_source(folder, args.licence), held_out=True)
        for folder in args.hold_out
        if shard.takes(folder.resolve().name)
    ]
    for folder in args.checkout:
        if shard.takes(folder.resolve().name):
            try:
                local.append(checkout_source(folder, args.licence))
            except NoLicence as reason:
                local.append(reason)

    def sources() -> Iterator[Source | NotUsable]:
        yield from local
        if names:
            yield from package_sources(list(names), args.cache)

    return len(local) + len(names), sources()
