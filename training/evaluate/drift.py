"""How far a compressed model is from the one that it was made from, and what is too far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.compress.gate import INT8
from training.evaluate.heldout import HeldOut, Measured
from training.evaluate.loss import top1_agreement
from training.evaluate.statistics import Sample, mcnemar

AGREEMENT_PIECES = 100  # about 40,000 positions: half a tenth of a percent

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """`growth` is relative, of bits per byte left to right; `agreement` the share of positions with the same likeliest
    token; `lines` the shares of exactly matched lines before and after, `p` that they are the same (McNemar)."""

    growth: float
    agreement: float
    lines: tuple[float, float]
    p: float

    def too_far(self) -> str | None:
        """What is beyond the gate, in words with figures, or None."""
        found = []
        if not self.growth <= INT8.bits_per_byte:  # not a number is too far as well
            found.append(f"bits per byte grow by {self.growth:.1%} (at most {INT8.bits_per_byte:.1%})")
        if not self.agreement >= INT8.top1_agreement:
            found.append(
                f"{self.agreement:.1%} of the likeliest tokens stay the same (at least {INT8.top1_agreement:.0%})"
            )
        before, after = self.lines
        if after < before and self.p < SIGNIFICANT:
            found.append(f"exactly matched lines fall from {before:.1%} to {after:.1%} (p {self.p:.3f})")
        return "; ".join(found) or None


def drift(
    original: GPT, compressed: GPT, tokenizer: Tokenizer, material: HeldOut, before: Measured, after: Measured
) -> Drift:
    """`before` and `after` are what the two models measured on `material`."""
    lines = [_lines(measured) for measured in (before, after)]
    return Drift(
        after.samples["bits_per_byte"].value / before.samples["bits_per_byte"].value - 1,
        top1_agreement(original, compressed, tokenizer, material.pieces[:AGREEMENT_PIECES]),
        (lines[0].value, lines[1].value),
        mcnemar(*lines),
    )


def _lines(measured: Measured) -> Sample:
    both = [measured.samples[f"exact_match_{name}"] for name in ("rest_of_line", "whole_line")]
    hits = np.concatenate([sample.values for sample in both])
    return Sample(hits, np.ones(len(hits)), is_share=True)
