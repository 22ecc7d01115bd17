"""The filters in their order, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inference_service.output_filters.confidence import believed
from inference_service.output_filters.in_suffix import without_suffix
from inference_service.output_filters.repeated_text import without_repetition
from inference_service.output_filters.secrets import has_secret
from inference_service.output_filters.syntax import parses

Reason = Literal["low_confidence", "secret", "repeated_text", "in_suffix"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is left of a completion, what took the rest away, and whether the file parses with it."""

    text: str
    reasons: tuple[Reason, ...]
    syntax: bool | None


def judge(text: str, *, before: str, after: str, language: str, mean_logprob: float | None) -> Verdict:
    """Filter one completion between `before` and `after` the cursor; `mean_logprob` in nats per token."""
    if not believed(mean_logprob):
        return Verdict("", ("low_confidence",), None)
    if has_secret(text):
        return Verdict("", ("secret",), None)
    once = without_repetition(text)
    left = without_suffix(once, after)
    cut: dict[Reason, bool] = {"repeated_text": once != text, "in_suffix": left != once}
    return Verdict(left, tuple(reason for reason, done in cut.items() if done), parses(before, left, after, language))
