"""The model card: data, licences, training, evaluation, limits."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from training.evaluate.heldout import Measured
from training.evaluate.report import figures_table
from training.recipe import Recipe

# what packages write in their licence field, by family; the first that is found names it
_FAMILIES = (
    ("0BSD", r"\b0bsd"),
    ("BSD", r"\bbsd"),
    ("MIT", r"\bmit\b"),
    ("Apache-2.0", r"apache|\basl\b"),
    ("PSF", r"\bpsf|python software foundation|python-2"),
    ("ISC", r"\bisc"),
    ("Zope", r"\bzpl|zope"),
    ("Unlicense", r"unlicense"),
    ("Zlib", r"zlib"),
    ("CC0", r"\bcc0"),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card says of a training. `sources` are the corpus manifest's, `notes` what a person adds."""

    recipe: Recipe
    steps: int
    sources: Sequence[Mapping[str, Any]]
    decontaminated: Sequence[str]
    notes: Sequence[str]
    torch: str
    parameters: int
    weight_bytes: int
    quantization: str


def render_card(facts: Facts, float32: Measured, served: Measured, agreement: float) -> str:
    """Markdown text. `float32` was measured on the trained model, `served` with int8 weights, `agreement` is the share
    of positions to which both give the same likeliest token."""
    recipe, train = facts.recipe, facts.recipe.train
    split = {name: [source for source in facts.sources if source["split"] == name] for name in ("train", "heldout")}
    template = Template((Path(__file__).parent / "card_template.md").read_text(encoding="utf-8"))
    return template.substitute(
        recipe.model.to_dict(),
        name=recipe.name,
        parameters=f"{facts.parameters / 1e6:.1f}",
        megabytes=f"{facts.weight_bytes / 1e6:.1f}",
        quantization=facts.quantization,
        train_packages=len({source["name"] for source in split["train"]}),
        heldout_packages=len({source["name"] for source in split["heldout"]}),
        train_chars=f"{sum(source['chars'] for source in split['train']) / 1e6:.0f}",
        decontaminated=_decontaminated(facts.decontaminated),
        licences=_licence_table(split["train"], split["heldout"]),
        tokens_seen=f"{facts.steps * train.batch_tokens / 1e6:.2f}",
        unfinished="" if facts.steps >= train.steps else f" (stopped at step {facts.steps} of {train.steps})",
        fim_share=f"{recipe.fim.fim_rate:.0%}",
        torch=facts.torch,
        cores=os.cpu_count(),
        machine=platform.machine(),
        notes="".join(f"\n{note}\n" for note in facts.notes),
        agreement=f"{agreement:.1%}",
        figures=figures_table({"float32": float32, "int8": served}),
    )


def licence_family(name: str) -> str:
    """A package's spelling of its licence -> one spelling for all; parts of an expression once each, in order."""
    parts = re.split(r"\s+(AND|OR)\s+", name.replace("(", " ").replace(")", " "), flags=re.IGNORECASE)
    families = sorted({_family(part.strip()) for part in parts[::2]})
    return (" or " if "OR" in (word.upper() for word in parts[1::2]) else " and ").join(families)


def _family(name: str) -> str:
    return next((family for family, words in _FAMILIES if re.search(words, name, re.IGNORECASE)), name)


def _licence_table(train: Sequence[Mapping[str, Any]], heldout: Sequence[Mapping[str, Any]]) -> str:
    counts = [Counter(licence_family(source["licence"]) for source in sources) for sources in (train, heldout)]
    names = sorted(counts[0] | counts[1], key=lambda name: (-counts[0][name], name))
    return "\n".join(f"| {name} | {counts[0][name]} | {counts[1][name]} |" for name in names)


def _decontaminated(files: Sequence[str]) -> str:
    if not files:
        return ""
    return f"\nDocuments that share 10 words in a row with one of these files were left out: {', '.join(files)}."
