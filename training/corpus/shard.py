"""Shards of a corpus: each takes its part of the sources, and at the end they become one corpus."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from training.corpus.collect import JOURNAL
from training.corpus.combine import combine
from training.corpus.corpus_files import BadCorpus, full_disk_is_told

_FOLDER = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts, from 0 like a Kubernetes indexed Job's JOB_COMPLETION_INDEX; 0 of 1 is all."""

    index: int
    count: int

    def takes(self, name: str) -> bool:
        """Whether the source of this name is in this shard: by a hash, so it does not depend on the other names."""
        return int.from_bytes(hashlib.sha256(b"shard " + name.lower().encode()).digest()[:8]) % self.count == self.index

    def folder(self, out: Path) -> Path:
        """Where the shard is written: a folder in `out`, or `out` itself when there is only one."""
        return out if self.count == 1 else out / f"shard-{self.index}-of-{self.count}"


def merge(out: Path) -> dict[str, int]:
    """Make one corpus of all shards in `out`, without duplicates across them; returns the counts. Raises BadCorpus."""
    found = [match for path in out.glob("shard-*-of-*") if (match := _FOLDER.fullmatch(path.name))]
    counts = {int(match[2]) for match in found}
    if not counts:
        raise BadCorpus(f"{out} holds no shards: run collect with --shard 0/n to --shard n-1/n and this --out first")
    if len(counts) > 1:
        raise BadCorpus(f"{out} holds shards of several runs (of {sorted(counts)}): remove the old ones")
    count = counts.pop()
    folders = [Shard(index, count).folder(out) for index in range(count)]
    for index, folder in enumerate(folders):
        if not (folder / "manifest.json").is_file():
            raise BadCorpus(f"{folder} is missing or unfinished: run collect with --shard {index}/{count} first")
    with full_disk_is_told(out):
        merged = combine(folders, out, out / JOURNAL / "combined", Counter())
        shutil.rmtree(out / JOURNAL)
    return merged
