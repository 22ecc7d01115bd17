"""Single-line infilling on held-out packages: greedy exact match, prompt format and healing as in serving."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from inference_service.model.fim import fim_head
from inference_service.model.gpt import GPT
from inference_service.model.healing import Vocabulary, split_for_healing
from inference_service.model.kv_cache import KVCache
from inference_service.model.tokenizer import Tokenizer

_MAX_NEW = 48
_SUFFIX_TOKENS = 100


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


class LineCompleter:
    """Greedy completion of holes up to the line's end, with one cache and vocabulary for all of them."""

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        c = model.config
        self._model, self._tokenizer = model, tokenizer
        self._vocabulary = Vocabulary(tokenizer)
        self._cache = KVCache(c.n_layer, c.n_kv_head, c.head_dim, c.context_length, torch.device("cpu"), torch.float32)

    @torch.inference_mode()
    def complete(self, hole: Hole) -> str:
        """The text that the model puts at the cursor."""
        head = fim_head(self._tokenizer, hole.path, self._tokenizer.encode(hole.suffix)[:_SUFFIX_TOKENS])
        prefix, typed = split_for_healing(self._tokenizer, self._tokenizer.encode(hole.prefix))
        tokens = head + prefix[-(self._model.config.context_length - len(head) - _MAX_NEW) :]
        self._cache.length, text = 0, b""
        for _ in range(_MAX_NEW):
            states = self._model.hidden(torch.tensor([tokens]), self._cache)
            logits = self._model.head(states[0, -1:])[0]
            if typed:
                allowed = torch.tensor(self._vocabulary.continuing(typed))
                token = int(allowed[logits[allowed].argmax()])
            else:
                token = int(logits.argmax())
            if self._tokenizer.is_sentinel(token):
                break
            piece = self._tokenizer.token_bytes(token)
            overlap = min(len(typed), len(piece))
            typed, text = typed[overlap:], text + piece[overlap:]
            if b"\n" in text:
                break
            tokens = [token]
        return text.decode("utf-8", "replace").split("\n")[0]


def exact_match(completer: LineCompleter, holes: list[Hole]) -> float:
    """Share of holes whose line comes out exactly, trailing blanks aside."""
    right = sum(completer.complete(hole).rstrip() == hole.middle.rstrip() for hole in holes)
    return right / max(len(holes), 1)
