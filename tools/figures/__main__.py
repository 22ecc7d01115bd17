"""Puts the newest figures of the benchmarks into the pages, between `<!-- figures: NAME -->` and
`<!-- end of figures -->`, and draws their plots. Run it after a benchmark; tests/docs/test_figures.py notices when it
was forgotten. What stands outside the marks is written by hand.

    python -m tools.figures
"""

from __future__ import annotations

import re

from deploy import cost
from tests.benchmarks.bench_data import data_table, rates_table, train_table
from tools.figures.overview import ratio_table, run_table
from tools.figures.plots import PLOTS, draw
from tools.figures.results import ROOT, Result, newest
from tools.figures.tables import TABLES

DOCS = ROOT / "docs"
IMAGES = DOCS / "images" / "figures"
_MARKED = re.compile(r"(<!-- figures: ([a-z -]+) -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)


def section(name: str, results: dict[str, Result]) -> str:
    """What belongs between the marks of `name`."""
    if name == "runs":
        return run_table()
    if name == "ratios":
        return f"{_image(name)}\n\n{ratio_table(results)}"
    if name == "cost":
        return cost.tell([])
    benchmark, _, part = name.partition(" ")  # "data", "data rates", "data training"
    if benchmark not in results:
        return f"Not measured yet: `python -m tests.benchmarks.bench_{benchmark.replace('-', '_')}`."
    result = results[benchmark]
    if benchmark == "data":
        return _data(result, part)
    text = TABLES[benchmark](result.figures)
    return "\n\n".join([text, *([_image(name)] if name in PLOTS else []), result.caption()])


def _data(result: Result, part: str) -> str:
    assumed = result.figures["assumed"]
    if part == "training":
        return "\n".join(train_table(assumed["peak"], assumed["mfu"], assumed["gpu_hour"]))
    if part == "rates":
        return "\n".join(rates_table(result.figures["measured"]))
    rows = data_table(result.figures["measured"], assumed["core_hour"], assumed["tb_month"])
    return "\n".join(rows) + f"\n\n{result.caption()}"


def _image(name: str) -> str:
    return f"![{PLOTS[name][0]}](images/figures/{name}.svg)"


def pages() -> dict[str, str]:
    """By path from docs/, every page and plot as it should be."""
    results = newest()
    made: dict[str, str] = {}
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        filled = _MARKED.sub(lambda m: f"{m[1]}\n{section(m[2], results)}\n\n{m[4]}", text)
        if _MARKED.search(text):
            made[page.name] = filled
    for name in PLOTS:
        if name == "ratios" or name in results:
            made[f"images/figures/{name}.svg"] = draw(name, results)
    return made


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
