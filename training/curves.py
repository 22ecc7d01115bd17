"""The curves of a run as one picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_PANELS = (
    ("loss", "loss, nats a token"),
    ("grad_norm", "gradient norm"),
    ("lr", "learning rate"),
    ("tokens_per_s", "tokens/s"),
)
_SMOOTHED = ("loss", "grad_norm")


def draw(log: Path, picture: Path) -> None:
    """Draw the steps of a log.jsonl into a PNG, replaced atomically: pale each step, strong the mean over 2 %
    of the run, dashed lines where training went back."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    figure = Figure(figsize=(11, 7))
    for axes, (key, title) in zip(figure.subplots(2, 2, sharex=True).flat, _PANELS, strict=True):
        known = [line for line in steps if key in line]
        x, y = (np.array([line[name] for line in known]) for name in ("step", key))
        axes.plot(x, y, linewidth=0.6, alpha=0.4)
        half = len(y) // 100
        if half and key in _SMOOTHED:
            mean = np.convolve(y, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
            axes.plot(x[half:-half], mean, linewidth=1.5)
        for line in lines:
            if "event" in line:
                axes.axvline(line["step"], linestyle="--", linewidth=0.8, color="tab:red")
        axes.set_title(title)
    figure.supxlabel("step")
    figure.subplots_adjust(left=0.06, right=0.98, top=0.95, bottom=0.08, wspace=0.15, hspace=0.15)
    partial = picture.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=100)
    partial.replace(picture)
