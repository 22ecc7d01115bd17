"""Benchmarks that a corpus must not contain: their 10-grams of words, and which documents share one.

Any shared n-gram takes the document out, as in Brown et al. 2020, "Language models are few-shot learners", appendix C.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.corpus.words import ngram_hashes, word_hashes

NGRAM_WORDS = 10


class BadBenchmark(ValueError):
    """A benchmark file that cannot be used; the message says the path and what to do."""


@dataclass(frozen=True)
class Benchmarks:
    """The n-grams of some benchmark files: sorted and unique, (n,) uint64; and what the manifest says of each file."""

    grams: np.ndarray
    files: tuple[dict[str, str], ...] = ()

    def share_words_with(self, words: np.ndarray) -> bool:
        """Whether a document (its `word_hashes`) shares any 10-gram of words with the benchmarks."""
        if not len(self.grams):
            return False
        grams = ngram_hashes(words, NGRAM_WORDS)
        nearest = np.searchsorted(self.grams, grams)
        return bool((self.grams[np.minimum(nearest, len(self.grams) - 1)] == grams).any())


NO_BENCHMARKS = Benchmarks(np.zeros(0, dtype=np.uint64))


def read_benchmarks(paths: Iterable[Path]) -> Benchmarks:
    """Plain text, or `.jsonl` of which every string value counts. Raises BadBenchmark.

    Strings of fewer than 10 words have no 10-gram and take nothing out.
    """
    grams, files = [NO_BENCHMARKS.grams], []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadBenchmark(f"{path} cannot be read ({error}): give a .jsonl or a plain UTF-8 text file") from error
        found = [ngram_hashes(word_hashes(part), NGRAM_WORDS) for part in _parts(path, text)]
        if not any(map(len, found)):
            raise BadBenchmark(f"{path} holds no run of {NGRAM_WORDS} words to compare with: give the benchmark's file")
        grams += found
        files.append({"file": path.name, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return Benchmarks(np.unique(np.concatenate(grams)), tuple(files))


def _parts(path: Path, text: str) -> Iterator[str]:
    if path.suffix != ".jsonl":
        yield text
        return
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            yield from _strings(json.loads(line) if line.strip() else None)
        except json.JSONDecodeError as error:
            raise BadBenchmark(f"{path}, line {number} is not JSON ({error}): mend or remove the line") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
