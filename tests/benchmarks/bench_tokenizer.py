"""Bytes per token of our vocabularies beside gpt2 and cl100k, on the held-out packages of a collected corpus.

The two come with npm's package `tiktoken`; `--ranks` keeps them in the form that TIKTOKEN_CACHE_DIR wants.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from unittest import mock

from tiktoken_ext import openai_public

from tests.benchmarks import record
from training.tokenizer import train_tokenizer
from training.tokenizer_report import REFERENCES, report

SIZES = (8192, 16384, 32768)


def fill_cache(folder: Path) -> None:
    """Write the ranks of REFERENCES under the names that tiktoken looks for. It checks their SHA-256 when it loads."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", "tiktoken", "--silent"], cwd=scratch, check=True, capture_output=True)
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as package:
            for name in REFERENCES.values():
                member = package.extractfile(f"package/encoders/{name}.json")
                assert member is not None
                address = hashlib.sha1(_address(name).encode(), usedforsecurity=False).hexdigest()
                (folder / address).write_bytes(_ranks(json.load(member)["bpe_ranks"]))


def _address(name: str) -> str:
    """Where tiktoken would download the ranks of `name` from."""
    with mock.patch.object(openai_public, "load_tiktoken_bpe") as load:
        getattr(openai_public, name)()
    return str(load.call_args.args[0])


def _ranks(packed: str) -> bytes:
    """From npm's `! first-rank token token …` lines to a `token rank` line each."""
    lines = []
    for line in packed.splitlines():
        _, first, *tokens = line.split(" ")
        lines += [f"{token} {rank}\n" for rank, token in enumerate(tokens, start=int(first))]
    return "".join(lines).encode()


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--corpus", type=Path, default=Path(".runs/corpus"))
    parser.add_argument("--ranks", type=Path, help="folder for the ranks of gpt2 and cl100k (default: a temporary one)")
    args = parser.parse_args()
    record.need(args.corpus)
    with tempfile.TemporaryDirectory() as scratch:
        ranks = args.ranks or Path(scratch)
        fill_cache(ranks)
        os.environ["TIKTOKEN_CACHE_DIR"] = str(ranks)
        trained, seconds = {}, {}
        for size in SIZES:
            started = time.perf_counter()
            trained[f"ours, {size // 1024}k"] = train_tokenizer(args.corpus, size)
            seconds[size] = round(time.perf_counter() - started, 1)
        told = report(trained, args.corpus)
    print(told)
    record.write("tokenizer", {"report": told.splitlines(), "training_seconds": seconds}, args.results)


if __name__ == "__main__":
    main()
