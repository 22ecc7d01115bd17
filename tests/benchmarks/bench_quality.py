"""What the bundled model is worth, as served, beside n-grams and its predecessors, on the same held-out packages.

    python -m tests.benchmarks.bench_quality [--data .runs/data] [--model DIR ...]

Its predecessors are what the git history has bundled before. Models with another tokenizer compare in bits per byte.
N-grams are counted on as many tokens as the bundled model has seen; they know no suffix. Figures have 95 % intervals.
Prints a table and writes a result.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference_service.model import directory
from inference_service.model.location import resolve
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from tests.benchmarks import record
from tests.benchmarks.ngrams import NGrams
from training.evaluate.heldout import LABELS, SEED, HeldOut, held_out, measure
from training.evaluate.holes import Hole
from training.evaluate.infilling import REST_OF_LINE
from training.evaluate.loss import Piece
from training.evaluate.statistics import Sample, figure, share
from training.shards import TokenDataset, load_tokenizer, open_split

TOKENS_A_LINE = 48
BUNDLED = "inference_service/bundled/nano"
ROOT = record.RESULTS.parents[2]


def counted(shard: TokenDataset, tokenizer: Tokenizer, order: int, tokens: int) -> NGrams:
    """N-grams of any documents with `tokens` tokens in all, `order` - 1 ends of text between them."""
    end = np.full(order - 1, tokenizer.sentinel(END_OF_TEXT))
    parts, size = [end], 0
    for document in np.random.default_rng(SEED).permutation(len(shard)):
        parts += [shard.document(int(document)).astype(np.int64), end]
        size += len(parts[-2])
        if size >= tokens:
            break
    return NGrams(np.concatenate(parts), order, tokenizer.vocab_size)


def ngram_bits(ngrams: NGrams, tokenizer: Tokenizer, pieces: list[Piece]) -> Sample:
    """Bits per byte, left to right."""
    nats, sizes = [], []
    end = [tokenizer.sentinel(END_OF_TEXT)] * (ngrams.order - 1)
    for piece in pieces:
        tokens = np.array(end + tokenizer.encode(piece.text))
        nats.append(-float(np.log(ngrams.probabilities(tokens, len(end))).sum()))
        sizes.append(float(len(piece.text.encode())))
    return Sample(np.array(nats) / math.log(2), np.array(sizes))


class NGramLines:
    """Completes the rest of a line by the likeliest token each time.

    Blanks at the cursor belong to the token after them, so they are taken back and have to come out again.
    """

    def __init__(self, ngrams: NGrams, tokenizer: Tokenizer) -> None:
        self._ngrams, self._tokenizer = ngrams, tokenizer

    def complete(self, hole: Hole) -> str:
        end = [self._tokenizer.sentinel(END_OF_TEXT)] * self._ngrams.order
        stem = hole.prefix.rstrip(" ")
        context, out = end + self._tokenizer.encode(stem), b""
        for _ in range(TOKENS_A_LINE):
            token = self._ngrams.likeliest(context)
            if self._tokenizer.is_sentinel(token):
                break
            context.append(token)
            out += self._tokenizer.token_bytes(token)
            if b"\n" in out:
                break
        return out.decode("utf-8", "replace").partition("\n")[0].removeprefix(hole.prefix[len(stem) :])


def measured_ngrams(data: Path, order: int, tokens: int, material: HeldOut) -> dict[str, Sample]:
    tokenizer = load_tokenizer(data)
    ngrams = counted(open_split(data, "train", tokenizer), tokenizer, order, tokens)
    lines, holes = NGramLines(ngrams, tokenizer), material.holes[REST_OF_LINE]
    right = [lines.complete(hole).rstrip() == hole.middle.rstrip() for hole in holes]
    bits = ngram_bits(ngrams, tokenizer, material.pieces)
    return {"bits_per_byte": bits, "exact_match_rest_of_line": share(right)}


def predecessors(folder: Path) -> dict[str, Path]:
    """Names and directories, in `folder`, of the models that the history has bundled before, the newest first."""
    weights = f"{BUNDLED}/model.safetensors"
    now = git("hash-object", weights)
    found: dict[str, Path] = {}
    for commit in git("log", "--format=%h", "--", weights).decode().split():
        if git("rev-parse", f"{commit}:{weights}") == now:
            continue
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit, BUNDLED))) as files:
            files.extractall(folder / commit, filter="data")
        found[f"nano of {commit}"] = folder / commit / BUNDLED
    return found


def git(*command: str) -> bytes:
    """What it prints; nothing where there is no git, no repository or no such thing."""
    try:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, check=False).stdout
    except OSError:
        return b""


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--model", action="append", default=[], help="another model directory to measure")
    parser.add_argument("--tokens", type=float, help="that n-grams are counted on (default: what the model has seen)")
    parser.add_argument("--holes", type=int, default=150, help="places of a kind to fill in (default 150)")
    parser.add_argument("--threads", type=int, default=1, help="more do not pay for so small a model")
    args = parser.parse_args()
    record.need(args.data)
    torch.set_num_threads(args.threads)
    tokens = int(args.tokens or provenance(resolve("nano"))["tokens_seen"])
    material = held_out(args.data, args.holes)
    ngrams = {f"{order}-grams": measured_ngrams(args.data, order, tokens, material) for order in (2, 3, 4)}
    models = {name: {"figures": intervals(samples), "tokens_seen": tokens} for name, samples in ngrams.items()}
    with tempfile.TemporaryDirectory() as folder:
        earlier = predecessors(Path(folder))
        others = {Path(name).name: Path(name) for name in args.model}
        for name, where in {"nano": resolve("nano"), **earlier, **others}.items():
            print(f"measuring {name}", file=sys.stderr, flush=True)
            loaded = directory.load(where)
            samples = measure(loaded.build_float(), loaded.tokenizer, material).samples
            models[name] = {"figures": intervals(samples), "tokens_seen": provenance(where).get("tokens_seen")}
    print(f"| held-out packages | {' | '.join(models)} |\n|---{'|---' * len(models)}|")
    for figure_name, label in LABELS.items():
        values = [one["figures"].get(figure_name) for one in models.values()]
        print(f"| {label} | {' | '.join('' if value is None else f'{value[0]:.3f}' for value in values)} |")
    record.write("quality", {"labels": LABELS, "holes": args.holes, "models": models}, args.results)
    if not earlier:
        sys.exit("not measured: predecessors of the bundled model; the history here has none (git fetch --unshallow)")


def provenance(model: Path) -> dict[str, Any]:
    """What its training told of itself."""
    return dict(json.loads((model / "config.json").read_text(encoding="utf-8"))["training"])


def intervals(samples: dict[str, Sample]) -> dict[str, list[float]]:
    """Value, from and to of each figure."""
    found = {name: figure(sample) for name, sample in samples.items()}
    return {name: [one.value, one.low, one.high] for name, one in found.items()}


if __name__ == "__main__":
    main()
