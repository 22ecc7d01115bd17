"""The table of size, speed and quality: Markdown for cards and pages, plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.compress.gate import Figures

_HEADER = (
    "| weights | MB | deflated MB | tokens/s | bits per byte, left to right | bits per byte, FIM | top-1 agreement "
    "| line exact match | gate |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Row:
    """`problems` are what the drift gate found; None for a model that is not gated."""

    name: str
    figures: Figures
    problems: list[str] | None = None

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "problems": self.problems} | {
            key: value and round(value, 4) for key, value in asdict(self.figures).items()
        }


def markdown(rows: Sequence[Row]) -> str:
    """The rows, the first of which is the float model that the others are compared with."""
    return "\n".join([_HEADER, *(_line(row, rows[0].figures) for row in rows)])


def _line(row: Row, reference: Figures) -> str:
    f = row.figures
    cells = [
        row.name,
        f"{f.weights_mb:.1f}",
        f"{f.deflated_mb:.1f}",
        f"{f.tokens_per_s:.0f}",
        _with_growth(f.bits_per_byte, reference.bits_per_byte),
        _with_growth(f.bits_per_byte_fim, reference.bits_per_byte_fim),
        "" if f is reference else f"{f.top1_agreement:.1%}",
        f"{f.exact_match:.1%}",
        "" if row.problems is None else "fails" if row.problems else "passes",
    ]
    return "| " + " | ".join(cells) + " |"


def _with_growth(value: float | None, reference: float | None) -> str:
    if value is None or reference is None:
        return ""
    return f"{value:.4f}" if value == reference else f"{value:.4f} ({value / reference - 1:+.1%})"
