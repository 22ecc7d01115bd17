"""The evaluation on held-out packages: what is measured, on which material, and the figures that come out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inference_service.model.fim import SPM2
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.evaluate.decoding import Decoder
from training.evaluate.holes import Hole, block_holes, line_holes, span_holes, whole_documents
from training.evaluate.infilling import (
    MULTI_LINE,
    RANDOM_SPAN,
    REST_OF_LINE,
    WHOLE_LINE,
    Task,
    complete_all,
)
from training.evaluate.loss import Piece, piece_loss, windows
from training.evaluate.statistics import Sample, mean, share
from training.shards import load_tokenizer, open_split

SEED = 1
LOSS_PIECES = 400
HOLES = 300

# in the order of tables
LABELS = {
    "bits_per_byte": "bits per byte, left to right",
    "bits_per_byte_fim": "bits per byte, fill in the middle (SPM)",
    "exact_match_rest_of_line": "single-line exact match, rest of a line",
    "exact_match_whole_line": "single-line exact match, whole line",
    "exact_match_multi_line": "multi-line exact match, last 2 to 5 lines of a block",
    "exact_match_random_span": "random-span exact match, 10 to 150 characters",
    "ends_by_itself": "random spans ended by the model itself (EOT rate)",
    "parses": "completions that leave the file parsing (multi-line, random span)",
    "chars_saved": "characters saved per request",
}


class NotMeasurable(ValueError):
    """A held-out split on which nothing can be measured; the message says what to do."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The material, the same for every model that is measured on one data folder."""

    pieces: list[Piece]
    holes: dict[Task, list[Hole]]


@dataclass(frozen=True)
class Measured:
    """Samples by the names of LABELS, and greedy tokens per second with prefill, one sequence at a time."""

    samples: dict[str, Sample]
    tokens_per_s: float


def held_out(data: Path, count: int = HOLES) -> HeldOut:
    """Choose windows and `count` holes a kind of the held-out split.

    Raises BadShard, or NotMeasurable when it is too small.
    """
    tokenizer = load_tokenizer(data)
    shard = open_split(data, "heldout", tokenizer)
    pieces = windows(shard, tokenizer, LOSS_PIECES, SEED)
    documents = whole_documents(shard, tokenizer, 2 * count, SEED)
    holes = {
        REST_OF_LINE: line_holes(pieces, count, SEED, whole_line=False),
        WHOLE_LINE: line_holes(pieces, count, SEED, whole_line=True),
        MULTI_LINE: block_holes(documents, count, SEED),
        RANDOM_SPAN: span_holes(documents, count, SEED),
    }
    for task, found in holes.items():
        if not found:
            raise NotMeasurable(
                f"the held-out packages of {data} have no file with a place for {task.name.replace('_', ' ')} "
                "infilling: collect more code, so that more of it is held out"
            )
    return HeldOut(pieces, holes)


def measure(model: GPT, tokenizer: Tokenizer, material: HeldOut) -> Measured:
    """All figures of a model in evaluation mode, with progress bars on a terminal's stderr."""
    samples = {"bits_per_byte": _loss_sample(model, tokenizer, material.pieces, fim=False)}
    if tokenizer.fim is SPM2:  # other formats show the prefix before the suffix: their figure would not compare
        samples["bits_per_byte_fim"] = _loss_sample(model, tokenizer, material.pieces, fim=True)
    decoder, outcomes, seconds = Decoder(model, tokenizer), {}, 0.0
    for task, holes in material.holes.items():
        started = time.perf_counter()
        bar = tqdm(holes, task.name, unit="hole", leave=False, disable=None)
        outcomes[task] = complete_all(decoder, task, bar)
        seconds += time.perf_counter() - started
    every = [outcome for task in material.holes for outcome in outcomes[task]]
    samples |= {f"exact_match_{task.name}": share([o.exact for o in outcomes[task]]) for task in material.holes}
    samples |= {
        "ends_by_itself": share([outcome.ended for outcome in outcomes[RANDOM_SPAN]]),
        "parses": share([outcome.parses for task in outcomes if task.whole_file for outcome in outcomes[task]]),
        "chars_saved": mean([outcome.saved for outcome in every]),
    }
    return Measured(samples, sum(outcome.tokens for outcome in every) / seconds)


def _loss_sample(model: GPT, tokenizer: Tokenizer, pieces: Sequence[Piece], *, fim: bool) -> Sample:
    bar = tqdm(pieces, "bits per byte", unit="window", leave=False, disable=None)
    losses = [piece_loss(model, tokenizer, piece.path, piece.text, fim=fim) for piece in bar]
    bits = np.array([loss.nats for loss in losses]) / math.log(2)
    return Sample(bits, np.array([loss.bytes for loss in losses], dtype=np.float64))
