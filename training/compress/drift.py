"""How far a compressed model is from the float one, on held-out packages."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from inference_service.model.fim import SPM2
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.compress.gate import Figures
from training.evaluate.decoding import Decoder
from training.evaluate.holes import Hole, line_holes
from training.evaluate.infilling import REST_OF_LINE, complete_all
from training.evaluate.loss import Piece, bits_per_byte, top1_agreement, windows
from training.shards import open_split

T = TypeVar("T")

_SEED = 1
PIECES = 100
HOLES = 200


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What models are measured on: windows of held-out packages, and lines in them to fill in."""

    tokenizer: Tokenizer
    pieces: Sequence[Piece]
    holes: Sequence[Hole]

    @classmethod
    def open(cls, data: Path, tokenizer: Tokenizer, pieces: int = PIECES, holes: int = HOLES) -> HeldOut:
        """At most `pieces` windows and `holes` lines, always the same ones. Raises BadShard."""
        texts = windows(open_split(data, "heldout", tokenizer), tokenizer, max(pieces, holes), _SEED)
        return cls(tokenizer, texts[:pieces], line_holes(texts, holes, _SEED, whole_line=False))


def measure(model: GPT, reference: GPT, held: HeldOut, weights: bytes) -> Figures:
    """Measure `model` beside the float `reference`, with progress bars on a terminal's stderr.

    `weights` is what it takes on disk.
    """
    fills_in = held.tokenizer.fim is SPM2
    decoder = Decoder(model, held.tokenizer)
    started = time.perf_counter()
    outcomes = complete_all(decoder, REST_OF_LINE, _bar(held.holes, "lines"))
    seconds = time.perf_counter() - started
    return Figures(
        weights_mb=len(weights) / 1e6,
        deflated_mb=len(zlib.compress(weights)) / 1e6,
        tokens_per_s=sum(outcome.tokens for outcome in outcomes) / seconds,
        bits_per_byte=bits_per_byte(model, held.tokenizer, _bar(held.pieces, "bits per byte"), fim=False),
        bits_per_byte_fim=(
            bits_per_byte(model, held.tokenizer, _bar(held.pieces, "bits per byte, FIM"), fim=True)
            if fills_in
            else None
        ),
        top1_agreement=top1_agreement(model, reference, held.tokenizer, _bar(held.pieces, "agreement")),
        exact_match=sum(outcome.exact for outcome in outcomes) / max(len(outcomes), 1),
    )


def _bar(items: Sequence[T], title: str) -> Iterable[T]:
    return tqdm(items, title, leave=False, disable=None)
