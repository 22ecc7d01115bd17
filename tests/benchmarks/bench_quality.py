"""What the bundled model is worth beside n-grams and other models, on the same windows and lines of held-out packages.

    python -m tests.benchmarks.bench_quality --data .runs/data [--at COMMIT ...] [--model DIR ...]

Models with another tokenizer compare in bits per byte. N-grams are counted on as many tokens as the bundled model has
seen; they know no suffix. Prints a table and writes a result.
"""

from __future__ import annotations

import io
import math
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from inference_service.model.loading import load
from inference_service.model.location import resolve
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from tests.benchmarks import record
from tests.benchmarks.ngrams import NGrams
from training.evaluate.holes import Hole, line_holes
from training.evaluate.infilling import LineCompleter, exact_match
from training.evaluate.loss import Piece, bits_per_byte, windows
from training.shards import TokenDataset, load_tokenizer, open_split

SEED, TOKENS_A_LINE = 1, 48
ROWS = ["bits per byte, left to right", "bits per byte, fill in the middle", "exact match, rest of a line"]


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


def ngram_bits(ngrams: NGrams, tokenizer: Tokenizer, pieces: list[Piece]) -> float:
    nats, size = 0.0, 0
    end = [tokenizer.sentinel(END_OF_TEXT)] * (ngrams.order - 1)
    for piece in pieces:
        tokens = np.array(end + tokenizer.encode(piece.text))
        nats -= float(np.log(ngrams.probabilities(tokens, len(end))).sum())
        size += len(piece.text.encode())
    return nats / math.log(2) / size


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


def bundled_at(commit: str, folder: Path) -> Path:
    """The model that the repository bundled at a commit, as a directory in `folder`."""
    command = ["git", "archive", commit, "inference_service/bundled/nano"]
    archive = subprocess.run(command, cwd=record.RESULTS.parents[2], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder / commit, filter="data")
    return folder / commit / "inference_service" / "bundled" / "nano"


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--model", action="append", default=[], help="another model directory to measure")
    parser.add_argument("--at", action="append", default=[], help="commit whose bundled model to measure, too")
    parser.add_argument("--tokens", type=float, default=17.4e6, help="that n-grams are counted on")
    parser.add_argument("--pieces", type=int, default=400)
    parser.add_argument("--holes", type=int, default=300)
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.data)
    pieces = windows(open_split(args.data, "heldout", tokenizer), tokenizer, args.pieces, SEED)
    holes = line_holes(pieces, args.holes, SEED, whole_line=False)
    train = open_split(args.data, "train", tokenizer)
    models: dict[str, Any] = {}
    for order in (2, 3, 4):
        ngrams = counted(train, tokenizer, order, int(args.tokens))
        right = exact_match(NGramLines(ngrams, tokenizer), holes)  # type: ignore[arg-type]
        models[f"{order}-grams"] = {"figures": {ROWS[0]: ngram_bits(ngrams, tokenizer, pieces), ROWS[2]: right}}
    folder = tempfile.TemporaryDirectory()
    directories = {"bundled nano": "nano"} | {Path(name).name: name for name in args.model}
    directories |= {f"nano of {commit}": str(bundled_at(commit, Path(folder.name))) for commit in args.at}
    for name, directory in directories.items():
        loaded = load(resolve(directory))
        model, known = loaded.build_float(), loaded.tokenizer
        figures = {
            ROWS[0]: bits_per_byte(model, known, pieces, fim=False),
            ROWS[1]: bits_per_byte(model, known, pieces, fim=True),
            ROWS[2]: exact_match(LineCompleter(model, known), holes),
        }
        models[name] = {"figures": figures}
    folder.cleanup()
    print(f"| held-out packages | {' | '.join(models)} |\n|---{'|---' * len(models)}|")
    for row in ROWS:
        values = [one["figures"].get(row) for one in models.values()]
        print(f"| {row} | {' | '.join('' if value is None else f'{value:.3f}' for value in values)} |")
    figures = {"rows": ROWS, "windows": len(pieces), "lines": len(holes), "tokens": args.tokens, "models": models}
    record.write("quality", figures, args.results)


if __name__ == "__main__":
    main()
