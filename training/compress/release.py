"""Writes a compressed model as a model directory, once it has passed the drift gate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from inference_service.model import directory
from inference_service.model.gpt import GPT
from training.compress.drift import HeldOut, measure
from training.compress.gate import Figures, Gate, TooMuchDrift
from training.compress.source import Source
from training.compress.table import Row, markdown
from training.golden import check_golden, golden_texts
from training.model_output import check_output, replace_directory


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed model. `quantized` gives (codes, scale) by name of what is rounded; other matrices become int8 rows.

    `name` is for tables ("int4, groups of 32, GPTQ"), `settings` for config.json.
    """

    name: str
    model: GPT
    settings: dict[str, Any]
    quantized: Mapping[str, tuple[Tensor, Tensor]] | None = None


def measure_float(source: Source, held: HeldOut) -> Row:
    """The row that everything else is compared with."""
    weights = save({name: tensor.contiguous() for name, tensor in source.model.state_dict().items()})
    return Row("float32", measure(source.model, source.model, held, weights))


def measure_compressed(
    source: Source, compressed: Compressed, held: HeldOut, gate: Gate, before: Figures, path: Path
) -> Row:
    """Write the model directory `path`, without golden texts, and measure what a CPU would serve from it."""
    directory.write(path, compressed.model, source.tokenizer, [], "", {}, compressed.quantized)
    figures = measure(directory.load(path).build_float(), source.model, held, (path / "model.safetensors").read_bytes())
    return Row(compressed.name, figures, gate.check(before, figures))


def release(
    source: Source, compressed: Compressed, held: HeldOut, gate: Gate, out: Path, others: Sequence[Compressed] = ()
) -> list[Row]:
    """Measure, and only then replace `out`; returns the rows of the float model, of `others` and of `compressed`.

    Raises TooMuchDrift when `compressed` does not pass the gate, GoldenTestFailed, and BadOutput, all with `out`
    unchanged.
    """
    check_output(out)
    before = measure_float(source, held)
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        every = (*others, compressed)
        rows = [measure_compressed(source, each, held, gate, before.figures, staging) for each in every]
        if problems := rows[-1].problems:
            raise TooMuchDrift(f"{'; '.join(problems)}; {out} is unchanged\n{markdown([before, *rows])}")
        _complete(source, compressed, [before, *rows], staging)
        check_golden(directory.load(staging))
        replace_directory(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [before, *rows]


def _complete(source: Source, compressed: Compressed, rows: list[Row], staging: Path) -> None:
    """Add card, golden texts and provenance to a written model."""
    golden = golden_texts(directory.load(staging))
    card = (
        f"{source.card.rstrip()}\n\n## Compression\n"
        f"{compressed.name}, made from {source.name}, which the figures above are of. As a CPU serves it:\n\n"
        f"{markdown(rows)}\n"
    )
    facts = compressed.settings | {"from": source.name, "drift": asdict(rows[-1].figures)}
    training = source.training | {"compression": [*source.training.get("compression", []), facts]}
    for name, text in source.beside.items():
        (staging / name).write_text(text, encoding="utf-8")
    directory.write(staging, compressed.model, source.tokenizer, golden, card, training, compressed.quantized)
