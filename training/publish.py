"""The publish stage: a trained checkpoint becomes a checked, quantized model directory with its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.card import Facts, render_card
from training.compress.quantize import int8_rows
from training.evaluate.drift import drift
from training.evaluate.heldout import HOLES, Measured, held_out, measure
from training.golden import check_golden, golden_texts
from training.model_output import check_output, replace_directory
from training.recipe import Recipe, load_recipe


class NotPublishable(ValueError):
    """A run that must not or cannot be published; the message says why, with figures, and what to do."""


@dataclass(frozen=True)
class Published:
    """What the trained model measured, and the written one with its int8 weights."""

    float32: Measured
    served: Measured


def publish(
    name: str, run: Path, data: Path, corpus: Path, out: Path, notes: list[str], holes: int = HOLES
) -> Published:
    """Quantize, evaluate on `holes` places of a kind to fill in, and only then replace `out`.

    Raises NotPublishable, BadRecipe, BadCheckpoint, BadShard, NotMeasurable, BadOutput or
    GoldenTestFailed, all with `out` unchanged.
    """
    check_output(out)
    recipe = _recipe(name, run)
    manifest = _manifest(corpus)
    material = held_out(data, holes)
    tokenizer = Tokenizer.load(data / "tokenizer.tiktoken")
    model, steps = load_checkpoint(recipe, run, tokenizer)
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        rounded = int8_rows(model, tokenizer, data)
        directory.write(staging, model, tokenizer, [], "", {}, rounded)
        loaded = directory.load(staging)
        served = loaded.build_float()
        result = Published(measure(model, tokenizer, material), measure(served, tokenizer, material))
        found = drift(model, served, tokenizer, material, result.float32, result.served)
        if problem := found.too_far():
            raise NotPublishable(f"int8 is too far from the trained model: {problem}; {out} is unchanged")
        golden = golden_texts(loaded)
        facts = Facts(
            recipe,
            steps,
            manifest["sources"],
            [file["file"] for file in manifest.get("decontaminated", [])],
            notes,
            version("torch"),
            sum(parameter.numel() for parameter in model.parameters()),
            (staging / "model.safetensors").stat().st_size,
            json.loads((staging / "config.json").read_text(encoding="utf-8"))["quantization"],
        )
        card = render_card(facts, result.float32, result.served, found.agreement)
        directory.write(staging, model, tokenizer, golden, card, _provenance(facts, result), rounded)
        (staging / "sources.json").write_text(json.dumps(manifest["sources"], indent=0) + "\n", encoding="utf-8")
        directory.write_manifest(staging)
        check_golden(directory.load(staging))
        replace_directory(staging, out)
    except (OSError, SafetensorError) as error:
        raise NotPublishable(f"{out} could not be written ({error}): free some space or give another --out") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return result


def load_checkpoint(recipe: Recipe, run: Path, tokenizer: Tokenizer) -> tuple[GPT, int]:
    """The trained model and the steps it has done. Raises NotPublishable or BadCheckpoint."""
    path = run / checkpoint.FILE
    if not path.is_file():
        raise NotPublishable(f"{path} is missing: run `midfill-train train {recipe.name}`, or give its folder as --run")
    snapshot = checkpoint.read(path)
    if snapshot.state.get("tokenizer", tokenizer.digest) != tokenizer.digest:
        raise NotPublishable(f"{path} was trained with another tokenizer than the data's: give its data as --data")
    model = GPT(recipe.model)
    try:
        checkpoint.restore(snapshot, model, [])
    except ValueError as error:
        raise NotPublishable(f"{path}: {error}; give the recipe that it was trained with") from error
    return model.eval().requires_grad_(False), snapshot.step


def _recipe(name: str, run: Path) -> Recipe:
    """What the run was trained with: the copy that it keeps, else the recipe itself."""
    kept = run / f"{Path(name).stem}.json"
    return load_recipe(str(kept) if kept.is_file() else name)


def _manifest(corpus: Path) -> dict[str, Any]:
    path = corpus / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all({"name", "licence", "split", "chars"} <= source.keys() for source in manifest["sources"]):
            raise KeyError("a source without name, licence, split or chars")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotPublishable(
            f"{path} cannot be read ({error}): a card needs the sources; give the folder that `midfill-train collect` "
            "wrote as --corpus"
        ) from error
    return manifest


def _provenance(facts: Facts, result: Published) -> dict[str, Any]:
    split = {name: [source for source in facts.sources if source["split"] == name] for name in ("train", "heldout")}
    return {
        "recipe": facts.recipe.name,
        "tokens_seen": facts.steps * facts.recipe.train.batch_tokens,
        "train_packages": len({source["name"] for source in split["train"]}),
        "train_chars": sum(source["chars"] for source in split["train"]),
        "heldout_packages": len({source["name"] for source in split["heldout"]}),
        "torch": facts.torch,
        "midfill": version("midfill"),
        "notes": list(facts.notes),
        "evaluation": {name: round(sample.value, 4) for name, sample in result.served.samples.items()}
        | {"tokens_per_s": round(result.served.tokens_per_s, 1)},
    }
