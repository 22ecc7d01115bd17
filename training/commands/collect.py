"""midfill-train collect"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.stages import Stages, path_option

if TYPE_CHECKING:
    from training.corpus.sources import Source


def add(stages: Stages) -> None:
    parser = stages.add(
        "collect", _run, "gather permissively licensed Python", "--stdlib --packages list.txt --out .runs/corpus"
    )
    parser.add_argument("--stdlib", action="store_true", help="take the running Python's standard library")
    parser.add_argument(
        "--packages", type=Path, action="append", default=[], help="file with names of packages on the index"
    )
    parser.add_argument("--folder", type=Path, action="append", default=[], help="folder of your own code")
    parser.add_argument(
        "--licence", default="proprietary, used by its owner", help="what the manifest says of your folders"
    )
    path_option(parser, "--cache", ".runs/sdists", "where downloads are kept")
    path_option(parser, "--out", ".runs/corpus", "corpus folder to write")


def _run(args: argparse.Namespace) -> None:
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
