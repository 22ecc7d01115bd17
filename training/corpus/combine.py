"""Several corpora -> one without duplicates: the last step of `collect`, and the way shards become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from training.corpus.corpus_files import CorpusWriter, open_corpus, publish
from training.corpus.near_duplicates import NearDuplicates
from training.corpus.sources import NotUsable
from training.corpus.split import SPLITS


def combine(
    folders: Sequence[Path], out: Path, staging: Path, also: Counter[str], may_be_empty: bool = False
) -> dict[str, int]:
    """Write what is new in each of the corpora, in their order, into the corpus `out`; returns the counts.

    Of duplicates and near-duplicates the first stays, within a package as across packages and splits. Documents
    stream; what grows with their number is the memory for their fingerprints. `out` changes only at the very end.
    Raises NotUsable when there is no document at all, unless that `may_be_empty`.
    """
    seen: set[bytes] = set()
    near = NearDuplicates()
    with CorpusWriter(staging) as writer:
        writer.counts.update(also)
        decontaminated: list[list[dict[str, str]]] = []
        for folder in tqdm(folders, desc="removing duplicates", unit="part", leave=False):
            corpus = open_corpus(folder)
            decontaminated.append(corpus.decontaminated)
            writer.counts.update(_kept_out(corpus.counts))
            for origin, document, record in corpus.documents():
                digest = record["digest"].tobytes()
                if digest in seen:
                    writer.counts["left out: duplicate"] += 1
                elif not near.is_new(record["signature"]):
                    writer.counts["left out: near-duplicate"] += 1
                else:
                    seen.add(digest)
                    writer.add(origin, document, record)
        if not seen and not may_be_empty:
            told = ", ".join(f"{number} {what}" for what, number in sorted(writer.counts.items()) if number)
            raise NotUsable(f"no file was left after filtering ({told}): check folders, package names and licences")
        counts = writer.finish(_in_all(decontaminated))
    publish(staging, out)
    return counts


def _kept_out(counts: Counter[str]) -> dict[str, int]:
    """The counts that add up over corpora; what is kept is counted again."""
    return {what: number for what, number in counts.items() if not what.startswith(SPLITS)}


def _in_all(lists: Iterable[list[dict[str, str]]]) -> list[dict[str, str]]:
    first, *others = [*lists] or [[]]
    return [file for file in first if all(file in other for other in others)]
