"""The model card: data, licences, training, evaluation, limits."""

from __future__ import annotations

import os
import platform
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures on held-out packages: bits per byte, shares of exactly matched lines, greedy tokens per second."""

    bits_per_byte: float
    bits_per_byte_fim: float
    exact_match_rest_of_line: float
    exact_match_whole_line: float
    tokens_per_s: float


_LABELS = {
    "bits_per_byte": "bits per byte, left to right",
    "bits_per_byte_fim": "bits per byte, fill in the middle (SPM)",
    "exact_match_rest_of_line": "single-line exact match, rest of a line",
    "exact_match_whole_line": "single-line exact match, whole line",
    "tokens_per_s": "greedy tokens/s, plain reference loop, prefill included",
}


def render_card(
    recipe: Recipe,
    provenance: dict[str, Any],
    sources: list[dict[str, Any]],
    trained: Evaluation,
    quantized: Evaluation,
    *,
    parameters: int,
    weight_bytes: int,
    pieces: int,
    holes: int,
) -> str:
    """Markdown text. `trained` was measured in float32, `quantized` as a CPU serves it; `pieces` windows and
    `holes` lines were measured."""
    licences = Counter(source["licence"] for source in sources)
    before, after = asdict(trained), asdict(quantized)
    template = Template((Path(__file__).parent / "card_template.md").read_text(encoding="utf-8"))
    return template.substitute(
        recipe.model.to_dict(),
        name=recipe.name,
        parameters=f"{parameters / 1e6:.1f}",
        megabytes=f"{weight_bytes / 1e6:.1f}",
        train_packages=provenance["train_packages"],
        heldout_packages=provenance["heldout_packages"],
        train_chars=f"{provenance['train_chars'] / 1e6:.0f}",
        tokens_seen=f"{provenance['tokens_seen'] / 1e6:.2f}",
        torch=provenance["torch"],
        cores=os.cpu_count(),
        machine=platform.machine(),
        pieces=pieces,
        holes=holes,
        licences="\n".join(f"| {name} | {count} |" for name, count in licences.most_common()),
        figures="\n".join(f"| {label} | {before[key]} | {after[key]} |" for key, label in _LABELS.items()),
    )
