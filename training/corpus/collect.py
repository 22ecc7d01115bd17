"""The collect stage: sources -> filtered, deduplicated documents, split by package, with a manifest."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.corpus.filters import rejected_path, rejected_text
from training.corpus.sources import STANDARD_LIBRARY, NotUsable, Source, download_sdist, sdist_source

HELD_OUT_SHARE = 0.05
MAX_SOURCE_CHARS = 4_000_000  # of one source, so that a few giants do not set the tone
SPLITS = ("train", "heldout")


def split_of(package: str) -> str:
    """ "train" or "heldout", decided by the package's name alone, so it never changes between runs.

    The standard library is always trained on: every program uses it.
    """
    if package == STANDARD_LIBRARY:
        return "train"
    share = int.from_bytes(hashlib.sha256(package.lower().encode()).digest()[:4]) / 2**32
    return "heldout" if share < HELD_OUT_SHARE else "train"


def read_package_list(path: Path) -> list[str]:
    """Names separated by white space; a line that begins with `#` is a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [name for line in lines if not line.startswith("#") for name in line.split()]
    return list(dict.fromkeys(names))


def pypi_sources(names: list[str], cache: Path, report: Counter[str]) -> Iterator[Source]:
    """Download (8 at a time, kept in `cache`) and open each package; what is not usable is counted and told."""
    cache.mkdir(parents=True, exist_ok=True)

    def fetch(name: str) -> Source | str:
        try:
            return sdist_source(*download_sdist(name, cache))
        except NotUsable as reason:
            return f"{name}: left out, {reason}"

    with ThreadPoolExecutor(8) as pool:
        for done, result in enumerate(pool.map(fetch, names), start=1):
            if isinstance(result, str):
                report["packages left out"] += 1
                print(f"[{done}/{len(names)}] {result}", file=sys.stderr)
            else:
                print(f"[{done}/{len(names)}] {result.name} {result.version}: {result.licence}", file=sys.stderr)
                yield result


def collect(sources: Iterable[Source], out: Path) -> dict[str, int]:
    """Write `<split>.jsonl` (package, path, text) and `manifest.json` into `out`; returns the counts.

    Files appear only when complete, so an interrupted run leaves an earlier corpus as it was.
    """
    out.mkdir(parents=True, exist_ok=True)
    report: Counter[str] = Counter()
    seen: set[bytes] = set()
    manifest = []
    partial = {split: out / f"{split}.jsonl.partial" for split in SPLITS}
    files = {split: path.open("w", encoding="utf-8") for split, path in partial.items()}
    try:
        for source in sources:
            split = split_of(source.name)
            kept = at_most(MAX_SOURCE_CHARS, _kept_files(source, seen, report))
            kept_files, kept_chars = len(kept), sum(len(text) for _, text in kept)
            for path, text in kept:
                files[split].write(json.dumps({"package": source.name, "path": path, "text": text}) + "\n")
            if kept_files:
                manifest.append(
                    {
                        "name": source.name, "version": source.version, "licence": source.licence,
                        "sha256": source.sha256, "split": split, "files": kept_files, "chars": kept_chars,
                    }
                )  # fmt: skip
            report[f"{split} files"] += kept_files
            report[f"{split} chars"] += kept_chars
            report[f"{split} packages"] += bool(kept_files)
    finally:
        for file in files.values():
            file.close()
    if not manifest:
        for unfinished in partial.values():
            unfinished.unlink()
        raise NotUsable("no file was left after filtering: check the folders, package names and licences")
    for split in SPLITS:
        partial[split].replace(out / f"{split}.jsonl")
    (out / "manifest.json").write_text(json.dumps({"sources": manifest, "counts": report}, indent=1) + "\n")
    return dict(report)


def _kept_files(source: Source, seen: set[bytes], report: Counter[str]) -> list[tuple[str, str]]:
    kept = []
    for path, text in source.read_files():
        reason = rejected_path(path) or rejected_text(text)
        digest = hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).digest()
        if reason is None and digest in seen:
            reason = "duplicate"
        if reason is None:
            seen.add(digest)
            kept.append((path, text.replace("\r\n", "\n")))
        else:
            report[f"left out: {reason.split(' a folder')[0]}"] += 1
    return kept


def at_most(chars: int, files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """All of `files` (path, text), or as many as fit `chars`, chosen by a hash of their paths, in their order."""
    if sum(len(text) for _, text in files) <= chars:
        return files
    chosen: set[str] = set()
    total = 0
    for path, text in sorted(files, key=lambda file: hashlib.sha256(file[0].encode()).digest()):
        total += len(text)
        if total > chars:
            break
        chosen.add(path)
    return [file for file in files if file[0] in chosen]
