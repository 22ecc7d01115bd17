"""A corpus on disk: one `<split>.jsonl` of documents a split, what finds their duplicates, and a manifest.

The same form serves a whole corpus, one shard of it, and one source that an interrupted run has finished.
`<split>.fingerprints` holds one RECORD a document, in the documents' order: 452 bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from training.corpus.near_duplicates import PERMUTATIONS
from training.corpus.split import SPLITS

RECORD = np.dtype([("digest", "V16"), ("chars", "<u4"), ("signature", "<u4", (PERMUTATIONS,))])
MANIFEST = "manifest.json"
_FILES = (*(f"{split}.{kind}" for split in SPLITS for kind in ("jsonl", "fingerprints")), MANIFEST)
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class BadCorpus(ValueError):
    """A corpus folder that cannot be read or written; the message says the path and what to do."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the manifest says of where documents come from; it also says how many `files` and `chars` were kept."""

    name: str
    version: str
    licence: str
    sha256: str
    split: str


class CorpusWriter:
    """Writes a corpus into a folder of its own, which is gone again unless `finish` was reached."""

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._sources: list[dict[str, Any]] = []
        self._last: Origin | None = None
        self._finished = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._files = {name: (folder / name).open("wb") for name in _FILES}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # of a full disk, which has been told already
                file.close()
        if not self._finished:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, origin: Origin, document: bytes, record: np.ndarray) -> None:
        """One document: its line of JSON with the line end, and its RECORD, shape ()."""
        self._files[f"{origin.split}.jsonl"].write(document)
        self._files[f"{origin.split}.fingerprints"].write(record.tobytes())
        if origin != self._last:
            self._last = origin
            self._sources.append(asdict(origin) | {"files": 0, "chars": 0})
        self._sources[-1]["files"] += 1
        self._sources[-1]["chars"] += int(record["chars"])

    def finish(self, decontaminated: Iterable[dict[str, str]]) -> dict[str, int]:
        """Bring everything to disk; returns the counts."""
        for split in SPLITS:
            kept = [source for source in self._sources if source["split"] == split]
            self.counts[f"{split} files"] = sum(source["files"] for source in kept)
            self.counts[f"{split} chars"] = sum(source["chars"] for source in kept)
            self.counts[f"{split} packages"] = len({source["name"] for source in kept})
        counts = {what: number for what, number in sorted(self.counts.items()) if number}
        manifest = {"sources": self._sources, "counts": counts, "decontaminated": list(decontaminated)}
        self._files[MANIFEST].write(f"{json.dumps(manifest, indent=1)}\n".encode())
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._finished = True
        return counts


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, to be read document by document."""

    folder: Path
    sources: list[dict[str, Any]]
    counts: Counter[str]
    decontaminated: list[dict[str, str]]

    def documents(self) -> Iterator[tuple[Origin, bytes, np.ndarray]]:
        """What `CorpusWriter.add` was given, in its order. Raises BadCorpus when a file is cut short."""
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context((self.folder / name).open("rb")) for name in _FILES if name != MANIFEST}
            for source in self.sources:
                origin = Origin(**{key: source[key] for key in Origin.__slots__})
                for _ in range(source["files"]):
                    document = files[f"{origin.split}.jsonl"].readline()
                    record = files[f"{origin.split}.fingerprints"].read(RECORD.itemsize)
                    if not document.endswith(b"\n") or len(record) < RECORD.itemsize:
                        raise BadCorpus(f"{self.folder} is cut short: delete it and collect it again")
                    yield origin, document, np.frombuffer(record, dtype=RECORD)[0]


def open_corpus(folder: Path) -> Corpus:
    """A corpus folder that `CorpusWriter` finished. Raises BadCorpus."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Corpus(folder, manifest["sources"], Counter(manifest["counts"]), manifest["decontaminated"])
    except (OSError, ValueError, KeyError) as error:
        raise BadCorpus(f"{folder} is not a corpus ({error}): delete it and collect it again") from error


def publish(staging: Path, out: Path) -> None:
    """Move a finished corpus into `out`, over an earlier one, the manifest last."""
    for name in _FILES:
        (staging / name).replace(out / name)
    staging.rmdir()


@contextlib.contextmanager
def full_disk_is_told(out: Path) -> Iterator[None]:
    """Turns the OSErrors of a full disk into BadCorpus."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise BadCorpus(
            f"{out}: no room left on the disk ({error.strerror}): free some or give another --out, then run the same "
            "command again; finished sources are kept, and an earlier corpus is as it was"
        ) from error
