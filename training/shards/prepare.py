"""The prepare stage: documents -> shards of token ids, in parallel, resumable, on any number of machines."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from inference_service.model.tokenizer import Tokenizer
from training.documents import COLLECT_MORE, BadDocuments, blocks, corpus_file
from training.shards.layout import (
    FORMAT,
    BadShard,
    Manifest,
    read_entry,
    shard_file,
    token_dtype,
    write_manifest,
    writing_to,
)
from training.shards.pool import write_shards

SHARD_BYTES = 64 << 20  # of corpus text in a shard, unless that makes more shards than:
MOST_SHARDS = 4096  # a split has that many at most, for each file costs its opening
_IDENTITY_DIGITS = 12


def prepare(
    corpus: Path,
    split: str,
    tokenizer: Tokenizer,
    out: Path,
    *,
    workers: int = 1,
    part: tuple[int, int] = (0, 1),
    shard_bytes: int = SHARD_BYTES,
) -> Manifest | None:
    """Tokenize part i of n of a split in `workers` processes; finished shards of an earlier run are not redone.

    Shard k belongs to part k mod n. Whoever finishes last writes the manifest, which replaces an earlier data set;
    until then None is returned and the earlier one stays. Memory does not grow with the corpus. Raises BadDocuments or
    BadShard.
    """
    file = corpus_file(corpus, split)
    size = file.stat().st_size
    if not size and split == "train":
        raise BadDocuments(f"{file} holds no documents: {COLLECT_MORE[split]}")
    cut = blocks(file, max(shard_bytes, -(-size // MOST_SHARDS)))
    identity = _identity(file, tokenizer, len(cut))
    folder = out / f"{split}-{identity}"
    with writing_to(out):
        folder.mkdir(parents=True, exist_ok=True)
    todo = {n: block for n, block in enumerate(cut) if n % part[1] == part[0] and read_entry(folder, n) is None}
    for number in todo:  # an entry must never stand beside files that are being replaced
        shard_file(folder, number, "json").unlink(missing_ok=True)
    for left in folder.glob("*.json.*.partial"):  # of a run that was killed; other parts may be writing theirs now
        if int(left.name.partition(".")[0]) in todo:
            left.unlink(missing_ok=True)
    write_shards(todo, folder, tokenizer, workers, title=split)
    if _identity(file, tokenizer, len(cut)) != identity:
        raise BadShard(f"{file} was replaced while it was read: run `midfill-train prepare` again")
    entries = [entry for n in range(len(cut)) if (entry := read_entry(folder, n)) is not None]
    if len(entries) < len(cut):
        return None
    manifest = Manifest(folder.name, tokenizer.digest, token_dtype(tokenizer.vocab_size).name, entries)
    with writing_to(out):
        write_manifest(out, split, manifest)
    for other in out.glob(f"{split}-{'[0-9a-f]' * _IDENTITY_DIGITS}"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)  # another part may be at it as well
    return manifest


def _identity(file: Path, tokenizer: Tokenizer, shards: int) -> str:
    """Equal for the parts of one run and for a run that is resumed, another one for any other input."""
    stat = file.stat()
    made_from = [FORMAT, tokenizer.digest, stat.st_size, stat.st_mtime_ns, shards]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:_IDENTITY_DIGITS]
