"""The publish stage: a trained checkpoint becomes a checked, quantized model directory with its card."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.model.quantize import use_int8_linears
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.card import Evaluation, render_card
from training.evaluate.infilling import Hole, LineCompleter, exact_match, line_holes
from training.evaluate.loss import bits_per_byte, windows
from training.recipe import Recipe
from training.shards import open_shard
from training.train import build_optimizers

EVALUATION_SEED = 1
LOSS_PIECES = 400
LINE_HOLES = 300
LARGEST_DRIFT = 0.02  # relative growth of bits per byte that int8 may cost

_GOLDEN_HOLES = [
    {"path": "app.py", "prefix": "import os\n\n\ndef main():\n    path = os.path.", "suffix": "\n    return path\n"},
    {"path": "shapes.py", "prefix": "class P:\n    def __init__(self, x, y):\n        self.x = ", "suffix": "\n"},
    {"path": "files.py", "prefix": "def read(path):\n    with open(path) as f:\n        ", "suffix": "\n"},
]


class NotPublishable(ValueError):
    """The quantized model is too far from the trained one; the message gives both figures."""


def load_checkpoint(recipe: Recipe, run: Path) -> tuple[GPT, int]:
    """The trained model and the tokens it has seen. Raises BadCheckpoint."""
    model = GPT(recipe.model)
    step = checkpoint.load(run / "checkpoint.safetensors", model, build_optimizers(model, recipe.train))
    return model.eval().requires_grad_(False), step * recipe.train.batch_tokens


def evaluate(model: GPT, tokenizer: Tokenizer, data: Path) -> Evaluation:
    """Measure a model on the prepared held-out split."""
    pieces = windows(open_shard(data, "heldout", tokenizer), tokenizer, LOSS_PIECES, EVALUATION_SEED)
    rest = line_holes(pieces, LINE_HOLES, EVALUATION_SEED, whole_line=False)
    whole = line_holes(pieces, LINE_HOLES, EVALUATION_SEED, whole_line=True)
    completer = LineCompleter(model, tokenizer)
    return Evaluation(
        bits_per_byte=round(bits_per_byte(model, tokenizer, pieces, fim=False), 4),
        bits_per_byte_fim=round(bits_per_byte(model, tokenizer, pieces, fim=True), 4),
        exact_match_rest_of_line=round(exact_match(completer, rest), 4),
        exact_match_whole_line=round(exact_match(completer, whole), 4),
        tokens_per_s=round(_decode_rate(completer, tokenizer, rest[:30]), 1),
    )


def _decode_rate(completer: LineCompleter, tokenizer: Tokenizer, holes: list[Hole]) -> float:
    started, tokens = time.perf_counter(), 0
    for hole in holes:
        tokens += len(tokenizer.encode(completer.complete(hole))) + 1
    return tokens / (time.perf_counter() - started)


def publish(recipe: Recipe, run: Path, data: Path, corpus: Path, out: Path) -> Evaluation:
    """Quantize, evaluate, and only then replace `out`. Raises NotPublishable, BadCheckpoint or BadShard."""
    model, tokens_seen = load_checkpoint(recipe, run)
    tokenizer = Tokenizer.load(data / "tokenizer.tiktoken")
    manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    provenance = _provenance(recipe, tokens_seen, manifest)
    trained = evaluate(model, tokenizer, data)
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    directory.write(staging, model, tokenizer, [], "", provenance)
    loaded = directory.load(staging)
    served = loaded.build_float()
    use_int8_linears(served, loaded.int8)
    quantized = evaluate(served, tokenizer, data)
    if quantized.bits_per_byte > trained.bits_per_byte * (1 + LARGEST_DRIFT):
        shutil.rmtree(staging)
        raise NotPublishable(
            f"int8 costs too much: {quantized.bits_per_byte} bits per byte against {trained.bits_per_byte} "
            f"in float32; {out} is unchanged"
        )
    card = render_card(
        recipe,
        provenance,
        manifest["sources"],
        trained,
        quantized,
        parameters=sum(p.numel() for p in model.parameters()),
        weight_bytes=(staging / "model.safetensors").stat().st_size,
        pieces=LOSS_PIECES,
        holes=LINE_HOLES,
    )
    completer = LineCompleter(loaded.build_float(), tokenizer)
    golden = [hole | {"text": completer.complete(Hole(middle="", **hole))} for hole in _GOLDEN_HOLES]
    directory.write(staging, model, tokenizer, golden, card, provenance | {"evaluation": asdict(quantized)})
    (staging / "sources.json").write_text(json.dumps(manifest["sources"], indent=0) + "\n", encoding="utf-8")
    directory.write_manifest(staging)
    shutil.rmtree(out, ignore_errors=True)
    staging.replace(out)
    return quantized


def _provenance(recipe: Recipe, tokens_seen: int, manifest: dict[str, Any]) -> dict[str, Any]:
    counts = manifest["counts"]
    return {
        "recipe": recipe.name,
        "tokens_seen": tokens_seen,
        "train_packages": counts["train packages"],
        "train_chars": counts["train chars"],
        "heldout_packages": counts["heldout packages"],
        "torch": version("torch"),
        "midfill": version("midfill"),
    }
