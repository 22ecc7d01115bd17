"""What an evaluation prints and writes: Markdown tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.evaluate.heldout import LABELS, Measured
from training.evaluate.pass_at_k import Result, pass_at_k
from training.evaluate.statistics import Figure, Sample, difference, figure, mean

_SPEED = "greedy tokens/s, one sequence at a time, prefill included"


def figures_table(models: Mapping[str, Measured]) -> str:
    """Markdown: a row a figure, a column a model with its 95 % interval."""
    first = next(iter(models.values()))
    rows = [["", *models, "of"]]
    for name, label in _common(*models.values()).items():
        cells = [_with_interval(measured.samples[name]) for measured in models.values()]
        rows.append([label, *cells, str(len(first.samples[name].values))])
    rows.append([_SPEED, *(f"{measured.tokens_per_s:.0f}" for measured in models.values()), ""])
    return _table(rows)


def comparison_table(names: Sequence[str], first: Measured, second: Measured) -> str:
    """Markdown: both models' figures, how far the second is above the first, and the p of no difference."""
    rows = [["", *names, "difference", "p"]]
    for name, label in _common(first, second).items():
        a, b = first.samples[name], second.samples[name]
        above = difference(a, b)
        change = _range(above.value, above.low, above.high, is_share=a.is_share, sign="+")
        p = f"{above.p:.3f}" if above.p >= 0.001 else "< 0.001"
        rows.append([label, _with_interval(a), _with_interval(b), change, p])
    rows.append([_SPEED, f"{first.tokens_per_s:.0f}", f"{second.tokens_per_s:.0f}", "", ""])
    return _table(rows)


def figures_json(measured: Measured) -> dict[str, Any]:
    figures = {name: _rounded(figure(measured.samples[name])) for name in _common(measured)}
    return {"figures": figures, "tokens_per_s": round(measured.tokens_per_s, 1)}


def comparison_json(first: Measured, second: Measured) -> dict[str, Any]:
    """`differences` are of the second above the first."""
    return {
        "first": figures_json(first),
        "second": figures_json(second),
        "differences": {
            name: {key: round(value, 6) for key, value in asdict(above).items()}
            for name in _common(first, second)
            for above in [difference(first.samples[name], second.samples[name])]
        },
    }


def benchmark_figures(results: Sequence[Result], ks: Sequence[int]) -> dict[int, Figure]:
    """pass@k over all problems, by k; the interval is over problems."""
    return {k: figure(mean([pass_at_k(result.samples, result.passed, k) for result in results])) for k in ks}


def benchmark_table(results: Sequence[Result], ks: Sequence[int]) -> str:
    rows = [["", "value", "of"]]
    for k, found in benchmark_figures(results, ks).items():
        value = _range(found.value, found.low, found.high, is_share=True)
        rows.append([f"pass@{k}", value, f"{found.units} problems, {results[0].samples} samples each"])
    return _table(rows)


def benchmark_json(results: Sequence[Result], ks: Sequence[int]) -> dict[str, Any]:
    figures = {f"pass@{k}": _rounded(found) for k, found in benchmark_figures(results, ks).items()}
    return {"figures": figures, "problems": [asdict(result) for result in results]}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` as a whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _common(*models: Measured) -> dict[str, str]:
    """Labels by name of what all of them measured."""
    return {name: label for name, label in LABELS.items() if all(name in measured.samples for measured in models)}


def _rounded(found: Figure) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(found).items()}


def _with_interval(sample: Sample) -> str:
    found = figure(sample)
    return _range(found.value, found.low, found.high, is_share=sample.is_share)


def _range(value: float, low: float, high: float, *, is_share: bool, sign: str = "") -> str:
    if is_share:
        return f"{100 * value:{sign}.1f} % ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"
    return f"{value:{sign}.4f} ({low:{sign}.4f} to {high:{sign}.4f})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"
