"""Bits per byte on held-out packages: independent of the tokenizer, so runs with different ones compare."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from inference_service.model.fim import fim_head, plain_head
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from training.shards import TokenDataset

_TEXT_TOKENS = 400  # per window, so that head, suffix and text fit a context of 512
_SUFFIX_TOKENS = 100


class Piece(NamedTuple):
    """A held-out text; documents of one package share its number."""

    path: str
    text: str
    package: int = 0


@dataclass(frozen=True, slots=True)
class PieceLoss:
    """Cross-entropy of one piece, summed, and the bytes of the text that it is of."""

    nats: float
    bytes: int


def windows(shard: TokenDataset, tokenizer: Tokenizer, count: int, seed: int) -> list[Piece]:
    """`count` pieces of about 400 tokens, each beginning at a line of another document.

    `tokenizer` is the one that the shard was prepared with.
    """
    choose = random.Random(seed)  # noqa: S311
    documents = choose.sample(range(len(shard)), min(count, len(shard)))
    pieces = []
    for document in documents:
        tokens = shard.document(document)
        begin = choose.randrange(max(1, len(tokens) - _TEXT_TOKENS))
        text = tokenizer.decode(tokens[begin : begin + _TEXT_TOKENS].tolist())
        text = text[text.find("\n") + 1 :] if begin else text
        if len(text) >= 100:
            pieces.append(Piece(shard.path(document), text, shard.package(document)))
    return pieces


@torch.inference_mode()
def piece_loss(model: GPT, tokenizer: Tokenizer, path: str, text: str, *, fim: bool) -> PieceLoss:
    """With `fim` the last third is given as suffix and not counted, the end-of-text token is.

    Text that does not fit the context after its head is not counted either.
    """
    context = model.config.context_length
    cut = len(text) * 2 // 3 if fim else len(text)
    if fim:
        head = fim_head(tokenizer, path, shown_suffix(tokenizer, text[cut:], context))
    else:
        head = plain_head(tokenizer, path)
    head = tokenizer.begin + head
    body = tokenizer.encode(text[:cut])
    counted = len(text[:cut].encode())
    room = context + 1 - len(head)
    if len(body) > room:
        body = body[:room]
        counted = sum(len(tokenizer.token_bytes(token)) for token in body)
    elif fim and len(body) < room:
        body = [*body, tokenizer.sentinel(END_OF_TEXT)]
    tokens = torch.tensor([head + body], device=device_of(model))
    logits = model(tokens[:, :-1])[0, len(head) - 1 :]
    return PieceLoss(float(F.cross_entropy(logits, tokens[0, len(head) :], reduction="sum")), counted)


def bits_per_byte(
    model: GPT, tokenizer: Tokenizer, pieces: Iterable[tuple[str, str] | tuple[str, str, int]], *, fim: bool
) -> float:
    """Mean over all bytes of the pieces (path, text, …), left to right or filling in the middle (`piece_loss`)."""
    return mean_bits_per_byte([piece_loss(model, tokenizer, piece[0], piece[1], fim=fim) for piece in pieces])


def mean_bits_per_byte(losses: Sequence[PieceLoss]) -> float:
    return sum(loss.nats for loss in losses) / math.log(2) / sum(loss.bytes for loss in losses)


@torch.inference_mode()
def top1_agreement(
    model: GPT, other: GPT, tokenizer: Tokenizer, pieces: Iterable[tuple[str, str] | tuple[str, str, int]]
) -> float:
    """Share of all positions of the pieces (path, text, …), read left to right, at which both models find the same
    token likeliest. The models share the tokenizer."""
    same = positions = 0
    context = min(model.config.context_length, other.config.context_length)
    for piece in pieces:
        head = tokenizer.begin + plain_head(tokenizer, piece[0])
        tokens = torch.tensor([(head + tokenizer.encode(piece[1]))[:context]], device=device_of(model))
        picks = [each(tokens)[0, len(head) - 1 :].argmax(-1) for each in (model, other)]
        same += int((picks[0] == picks[1]).sum())
        positions += len(picks[0])
    return same / positions


def shown_suffix(tokenizer: Tokenizer, suffix: str, context: int) -> list[int]:
    """As much of the text after a hole as a prompt shows, in a context of `context` tokens."""
    return tokenizer.encode(suffix)[: min(_SUFFIX_TOKENS, context // 4)]


def device_of(model: GPT) -> torch.device:
    # in int8 form a model of ours has no parameters left, only the buffers of its positions
    return next(itertools.chain(model.parameters(), model.buffers())).device
