"""One source -> its documents: filtered, scrubbed, and fingerprinted for the search for duplicates."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from training.corpus.contamination import Benchmarks
from training.corpus.corpus_files import RECORD, CorpusWriter, Origin
from training.corpus.filters import rejected_text
from training.corpus.near_duplicates import signature
from training.corpus.scrub import scrub
from training.corpus.sources import Source
from training.corpus.words import word_hashes


def write_source(source: Source, folder: Path, benchmarks: Benchmarks) -> None:
    """Write the corpus of one source, duplicates included, to `folder`, which appears only when it is complete."""
    origin = Origin(source.name, source.version, source.licence, source.sha256, source.split)
    staging = folder.with_name(f"{folder.name}.partial")
    with CorpusWriter(staging) as writer:
        for path, text in _texts(source, writer.counts):
            words = word_hashes(text)
            if benchmarks.share_words_with(words):
                writer.counts["left out: contaminated"] += 1
                continue
            scrubbed, found = scrub(text)
            if scrubbed is None:
                writer.counts["left out: does not parse once scrubbed"] += 1
                continue
            writer.counts.update({f"scrubbed: {kind}": times for kind, times in found.items()})
            line = json.dumps({"package": source.name, "path": path, "text": scrubbed}) + "\n"
            writer.add(origin, line.encode(), _fingerprint(scrubbed, word_hashes(scrubbed) if found else words))
        writer.finish(benchmarks.files)
    staging.rename(folder)


def _texts(source: Source, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """The files (path, text) of a source that are worth training on, in their order.

    Of a source with `max_chars` they are as many as fit, chosen by a hash of their paths.
    """
    if source.max_chars is None:
        yield from _accepted(source.read(counts), counts)
        return
    files = list(source.read(counts))
    place = {path: number for number, (path, _) in enumerate(files)}
    shuffled = iter(sorted(files, key=lambda file: hashlib.sha256(file[0].encode()).digest()))
    taken, chars = [], 0
    for path, text in _accepted(shuffled, counts):
        chars += len(text)
        if chars > source.max_chars:
            counts["left out: more than one package may hold"] += 1 + sum(1 for _ in shuffled)
            break
        taken.append((path, text))
    yield from sorted(taken, key=lambda file: place[file[0]])


def _accepted(files: Iterable[tuple[str, bytes]], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for path, content in files:
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            counts["left out: broken encoding"] += 1
            continue
        reason = rejected_text(text)
        if reason is None:
            yield path, text
        else:
            counts[f"left out: {reason}"] += 1


def _fingerprint(text: str, words: np.ndarray) -> np.ndarray:
    """RECORD, shape (): what exact duplicates (white space aside) and near-duplicates of `text` are found by."""
    digest = hashlib.sha256(" ".join(text.split()).encode()).digest()[: RECORD["digest"].itemsize]
    return np.array((digest, len(text), signature(words)), dtype=RECORD)
