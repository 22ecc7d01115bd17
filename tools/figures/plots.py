"""The plots of the pages, as SVG with its text kept as text: the same figures give the same file."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure

from tools.figures.overview import ratios
from tools.figures.results import Result

OURS, OTHERS, GREY = "#2a6fdb", "#c2410c", "#8a8f98"
_STYLE = {"svg.hashsalt": "midfill", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
          "axes.spines.right": False}  # fmt: skip


def ratio_plot(newest: dict[str, Result]) -> Figure:
    """A bar a ratio on a logarithmic axis; left of 1 the other one is better."""
    found = ratios(newest)[::-1]
    figure = Figure(figsize=(8, 0.6 + 0.26 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(found)), [one.value - 1 for one in found], left=1, height=0.6,
              color=[OURS if one.value >= 1 else OTHERS for one in found])  # fmt: skip
    axes.set_yticks(range(len(found)), [f"{one.what} · {one.beside}" for one in found])
    axes.set_xscale("log")
    for at, one in enumerate(found):
        axes.annotate(f" {one.value:.2f}× ", (one.value, at), va="center", ha="left" if one.value >= 1 else "right")
    low, high = min(0.5, *(one.value for one in found)), max(2.0, *(one.value for one in found))
    axes.set_xlim(low / 1.6, high * 1.8)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.6 < tick < high * 1.8]
    axes.set_xticks(ticks, [f"{tick}×" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_xlabel("ours is better by this factor")
    return figure


def confidence_plot(newest: dict[str, Result]) -> Figure:
    rows = newest["confidence"].figures["rows"]
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    thresholds = [row["threshold"] for row in rows]
    for key, title, color in (
        ("shown", "shown", GREY),
        ("kept", "of the right lines kept", OURS),
        ("first_word", "first word right", OTHERS),
    ):
        axes.plot(thresholds, [100 * row[key] for row in rows], marker="o", color=color, label=title)
    axes.set(xlabel="hidden below a confidence of, %", ylabel="%", ylim=(0, 102))
    axes.legend(frameon=False)
    return figure


def service_plot(newest: dict[str, Result]) -> Figure:
    """Time to the first token and goodput by the number of editors."""
    editors = newest["service"].figures["editors"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    time, good = figure.subplots(1, 2)
    counts = [int(count) for count in editors]
    for name, color in zip(next(iter(editors.values())), (OURS, OTHERS), strict=False):
        rows = [servers[name] for servers in editors.values()]
        time.plot(counts, [row["ttft_p50_ms"] for row in rows], marker="o", color=color, label=f"{name}, p50")
        time.plot(counts, [row["ttft_p95_ms"] for row in rows], marker="o", color=color, linestyle="--", label="p95")
        good.plot(counts, [100 * row["goodput"] for row in rows], marker="o", color=color, label=name)
    time.set(xlabel="editors", ylabel="ms to the first token", xscale="log", yscale="log")
    good.set(xlabel="editors", ylabel="% of requests within 100 ms", xscale="log", ylim=(0, 102))
    for axes in (time, good):
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.legend(frameon=False)
    return figure


PLOTS: dict[str, tuple[str, Callable[[dict[str, Result]], Figure]]] = {
    "ratios": ("Ratios to other and simpler ways, longer bars to the right are better", ratio_plot),
    "confidence": ("What hiding unsure completions costs and brings, by threshold", confidence_plot),
    "service": ("Time to the first token and goodput by the number of editors", service_plot),
}


def svg(figure: Figure) -> str:
    """The file's text, without the moment it was made at."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def draw(name: str, newest: dict[str, Result]) -> str:
    with matplotlib.rc_context(_STYLE):
        return svg(PLOTS[name][1](newest))
