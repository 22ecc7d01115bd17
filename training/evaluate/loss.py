"""Bits per byte on held-out packages: independent of the tokenizer, so runs with different ones compare."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F

from inference_service.model.fim import fim_head, plain_head
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from training.shards import Shard

_TEXT_TOKENS = 400  # per window, so that head, suffix and text fit a context of 512


def windows(shard: Shard, tokenizer: Tokenizer, count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pieces (path, text) of about 400 tokens, each beginning at a line of another document."""
    choose = random.Random(seed)  # noqa: S311
    documents = choose.sample(range(len(shard)), min(count, len(shard)))
    pieces = []
    for document in documents:
        tokens = shard.document(document)
        begin = choose.randrange(max(1, len(tokens) - _TEXT_TOKENS))
        text = tokenizer.decode(tokens[begin : begin + _TEXT_TOKENS].tolist())
        text = text[text.find("\n") + 1 :] if begin else text
        if len(text) >= 100:
            pieces.append((shard.paths[document], text))
    return pieces


@torch.inference_mode()
def bits_per_byte(model: GPT, tokenizer: Tokenizer, pieces: list[tuple[str, str]], *, fim: bool) -> float:
    """Mean over all bytes of the pieces. With `fim` the last third is given as suffix and not counted,
    the end-of-text token is."""
    nats, count = 0.0, 0
    for path, text in pieces:
        cut = len(text) * 2 // 3 if fim else len(text)
        head = fim_head(tokenizer, path, tokenizer.encode(text[cut:])[:100]) if fim else plain_head(tokenizer, path)
        body = tokenizer.encode(text[:cut]) + ([tokenizer.sentinel(END_OF_TEXT)] if fim else [])
        tokens = torch.tensor([head + body])
        logits = model(tokens[:, :-1])[0, len(head) - 1 :]
        nats += float(F.cross_entropy(logits, tokens[0, len(head) :], reduction="sum"))
        count += len(text[:cut].encode())
    return nats / math.log(2) / count
