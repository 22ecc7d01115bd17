"""Single-line infilling on held-out packages: greedy exact match, prompt format and healing as in serving."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from inference_service.model.fim import fim_head
from inference_service.model.gpt import GPT
from inference_service.model.kv_cache import KVCache
from inference_service.model.tokenizer import Tokenizer

_MAX_NEW = 48


@dataclass(frozen=True, slots=True)
class Hole:
    path: str
    prefix: str
    middle: str
    suffix: str


def line_holes(pieces: list[tuple[str, str]], count: int, seed: int, *, whole_line: bool) -> list[Hole]:
    """One hole a piece: a whole line after its indentation, or the rest of a line from a word boundary on."""
    choose = random.Random(seed)  # noqa: S311
    holes = []
    for path, text in pieces:
        lines = text.split("\n")
        usable = [
            i
            for i in range(len(lines) // 3, len(lines) - 1)
            if len(lines[i].strip()) >= 8 and lines[i].strip()[0] not in "#\"'"
        ]
        if not usable:
            continue
        number = choose.choice(usable)
        line = lines[number]
        start = len(line) - len(line.lstrip())
        if not whole_line:
            words = [i for i in range(start + 4, len(line) - 2) if not line[i - 1].isalnum() and line[i - 1] != "_"]
            if not words:
                continue
            start = choose.choice(words)
        before = "\n".join([*lines[:number], line[:start]])
        holes.append(Hole(path, before, line[start:], "\n" + "\n".join(lines[number + 1 :])))
        if len(holes) == count:
            break
    return holes


@torch.inference_mode()
def complete_line(model: GPT, tokenizer: Tokenizer, hole: Hole) -> str:
    """Greedy text up to the line's end."""
    config = model.config
    cache = KVCache(
        config.n_layer,
        config.n_kv_head,
        config.head_dim,
        config.context_length,
        torch.device("cpu"),
        torch.float32,
    )
    head = fim_head(tokenizer, hole.path, tokenizer.encode(hole.suffix)[:100])
    tokens = head + tokenizer.encode(hole.prefix)[-(config.context_length - len(head) - _MAX_NEW) :]
    text = b""
    while len(text) < 4 * _MAX_NEW:
        token = int(model(torch.tensor([tokens]), cache)[0, -1].argmax())
        if tokenizer.is_sentinel(token):
            break
        text += tokenizer.token_bytes(token)
        if b"\n" in text:
            break
        tokens = [token]
    return text.decode("utf-8", "replace").split("\n")[0]


def exact_match(model: GPT, tokenizer: Tokenizer, holes: list[Hole]) -> float:
    """Share of holes whose line comes out exactly, trailing blanks aside."""
    right = sum(complete_line(model, tokenizer, hole).rstrip() == hole.middle.rstrip() for hole in holes)
    return right / max(len(holes), 1)
