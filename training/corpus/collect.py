"""The collect stage: sources -> filtered, scrubbed, deduplicated documents, split by package, with a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from training.corpus.combine import combine
from training.corpus.contamination import NO_BENCHMARKS, Benchmarks
from training.corpus.corpus_files import BadCorpus, full_disk_is_told
from training.corpus.sources import NotUsable, Source
from training.corpus.workers import Outcome, settled, workers

JOURNAL = ".collect"  # in the corpus folder, until it is finished
_RULES = 1  # counted up when documents come out differently, so that finished sources are done again


def collect(
    sources: Iterable[Source | NotUsable],
    out: Path,
    benchmarks: Benchmarks = NO_BENCHMARKS,
    processes: int = 1,
    expected: int | None = None,
    may_be_empty: bool = False,
) -> dict[str, int]:
    """Write the corpus of `sources` into `out` (see `corpus_files`); returns the counts.

    Sources that turn out to be not usable are told and counted. `out` changes only when all is complete: an
    interrupted run leaves an earlier corpus as it was and keeps the sources it has finished, so that the same run
    goes on from there. `expected` sources are for the progress bar. Raises NotUsable when nothing is left, unless that
    `may_be_empty`; BadCorpus.
    """
    if out.exists() and not out.is_dir():
        raise BadCorpus(f"{out} is not a folder: give another --out")
    journal = out / JOURNAL
    with full_disk_is_told(out):
        folders, left_out = _write_sources(sources, journal, benchmarks, processes, expected)
        counts = combine(folders, out, journal / "combined", Counter({"left out: source": left_out}), may_be_empty)
        shutil.rmtree(journal)
    return counts


def _write_sources(
    sources: Iterable[Source | NotUsable], journal: Path, benchmarks: Benchmarks, processes: int, expected: int | None
) -> tuple[list[Path], int]:
    """Have every source that is not in the journal written into it.

    Returns all their folders, in the order of the sources, and how many sources are not usable.
    """
    asked: list[tuple[Path, Outcome]] = []
    with workers(processes, benchmarks) as submit, tqdm(total=expected, desc="collecting", unit="source") as bar:
        for source in sources:
            parts = [source] if isinstance(source, NotUsable) else source.parts()
            if bar.total is not None:
                bar.total += len(parts) - 1
            for part in parts:
                if isinstance(part, NotUsable):
                    folder, outcome = journal, settled(part)
                else:
                    folder = journal / _key(part, benchmarks)
                    outcome = settled(None) if folder.exists() else submit(part, folder)
                outcome.add_done_callback(lambda _: bar.update())
                asked.append((folder, outcome))
        outcomes = [(folder, outcome.result()) for folder, outcome in asked]
    for _, reason in outcomes:
        if reason is not None:
            print(f"left out: {reason}", file=sys.stderr)
    finished = [folder for folder, reason in outcomes if reason is None]
    return finished, len(outcomes) - len(finished)


def _key(source: Source, benchmarks: Benchmarks) -> str:
    """A name for the outcome of a source, which is the same only when source and rules are."""
    facts = (_RULES, sys.version_info[:2], repr(source), benchmarks.files)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
