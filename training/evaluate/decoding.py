"""Completions for measuring: the prompt format, token healing and greedy choice of the service, one cache for all.

One sequence at a time where it is greedy, because int8 kernels round the rows of a batch together and the service
decodes them one by one; the samples of one prompt are drawn side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference_service.model.fim import fim_head, fim_tail, plain_head
from inference_service.model.gpt import GPT
from inference_service.model.healing import Vocabulary, split_for_healing
from inference_service.model.kv_cache import KVCache
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from training.evaluate.loss import device_of, shown_suffix
from training.evaluate.stop_rules import StopRule


@dataclass(frozen=True, slots=True)
class Completion:
    """`ended` tells that the model wrote end-of-text itself; `tokens` counts what was decoded, healing included."""

    text: str
    ended: bool
    tokens: int


class Decoder:
    """Completes text with one model. Not safe for use from several threads."""

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        c = model.config
        self._model, self._tokenizer = model, tokenizer
        self._vocabulary = Vocabulary(tokenizer)
        self._device = device_of(model)
        self._cache = KVCache(c.n_layer, c.n_kv_head, c.head_dim, c.context_length, self._device, torch.float32)

    @torch.inference_mode()
    def greedy(self, path: str | None, prefix: str, suffix: str | None, stop: StopRule, budget: int) -> Completion:
        """The likeliest token at each step, until `stop`, end-of-text or `budget` tokens.

        `suffix` None continues left to right, as does a model that was not trained to fill in.
        """
        budget = self._affordable(budget)
        tokens, typed = self._prompt(path, prefix, suffix, budget)
        growing = _Growing(self._tokenizer, typed, stop)
        self._cache.length = 0
        for _ in range(budget):
            states = self._model.hidden(torch.tensor([tokens], device=self._device), self._cache)
            logits = self._model.head(states[0, -1:])[0]
            tokens = [growing.push(_choose(logits, growing.allowed(self._vocabulary)))]
            if growing.done:
                break
        return growing.completion()

    @torch.inference_mode()
    def samples(
        self,
        path: str | None,
        prefix: str,
        suffix: str | None,
        stop: StopRule,
        budget: int,
        *,
        count: int,
        temperature: float,
        seed: int,
    ) -> list[Completion]:
        """`count` completions drawn independently at `temperature` above 0. The prompt is computed once."""
        budget = self._affordable(budget)
        tokens, typed = self._prompt(path, prefix, suffix, budget)
        generator = torch.Generator().manual_seed(seed)
        growing = [_Growing(self._tokenizer, typed, stop) for _ in range(count)]
        self._cache.length = 0
        states = self._model.hidden(torch.tensor([tokens], device=self._device), self._cache)
        logits = self._model.head(states[0, -1:]).expand(count, -1)
        cache, active = _SampleCache(self._cache, count, budget), growing
        for _ in range(budget):
            scores = logits / temperature
            drawn = [
                sample.push(_draw(row, sample.allowed(self._vocabulary), generator))
                for sample, row in zip(active, scores.cpu(), strict=True)
            ]
            left = [row for row, sample in enumerate(active) if not sample.done]
            if not left:
                break
            if len(left) * 2 <= len(active):  # fewer copies than steps spent on ended samples
                cache.keep(left)
                active, drawn = [active[row] for row in left], [drawn[row] for row in left]
            states = self._model.hidden(torch.tensor(drawn, device=self._device)[:, None], cache)
            logits = self._model.head(states[:, -1])
        return [sample.completion() for sample in growing]

    def _affordable(self, budget: int) -> int:
        return min(budget, self._model.config.context_length // 2)

    def _prompt(self, path: str | None, prefix: str, suffix: str | None, budget: int) -> tuple[list[int], bytes]:
        """Tokens to prefill and bytes that come out first, in a context that keeps `budget` tokens free."""
        context, known = self._model.config.context_length, self._tokenizer
        tail: list[int] = []
        if suffix is None or known.fim.infill is None:
            head = plain_head(known, path)
        else:
            shown = shown_suffix(known, suffix, context)
            head, tail = fim_head(known, path, shown), fim_tail(known, path, shown)
        head = known.begin + head
        tokens, typed = split_for_healing(known, known.encode(prefix))
        room = context - len(head) - len(tail) - budget
        prompt = [*head, *tokens[-max(room, 1) :], *tail]
        return prompt or [known.sentinel(END_OF_TEXT)], typed


class _Growing:
    """One completion while it is decoded."""

    def __init__(self, tokenizer: Tokenizer, typed: bytes, stop: StopRule) -> None:
        self._tokenizer, self._typed, self._stop = tokenizer, typed, stop
        self._bytes, self._tokens, self._end = b"", 0, -1
        self._ended = False

    @property
    def done(self) -> bool:
        return self._ended or self._end >= 0

    def allowed(self, vocabulary: Vocabulary) -> np.ndarray | None:
        """Ids that may come next while typed bytes are spelled again, or None for all."""
        return vocabulary.continuing(self._typed) if self._typed else None

    def push(self, token: int) -> int:
        """Take a token unless it is all over; returns it."""
        if self.done:
            return token
        self._tokens += 1
        if self._tokenizer.is_sentinel(token):
            self._ended = True
            return token
        piece = self._tokenizer.token_bytes(token)
        overlap = min(len(self._typed), len(piece))
        self._typed, self._bytes = self._typed[overlap:], self._bytes + piece[overlap:]
        self._end = self._stop(self._text)
        return token

    def completion(self) -> Completion:
        text = self._text[: self._end] if self._end >= 0 else self._text
        return Completion(text, self._ended, self._tokens)

    @property
    def _text(self) -> str:
        return self._bytes.decode("utf-8", "replace")


class _SampleCache(KVCache):
    """What one sequence has in its cache, once for each of several samples, with room for `budget` tokens more."""

    def __init__(self, prompt: KVCache, samples: int, budget: int) -> None:
        self.length, self.capacity = prompt.length, min(prompt.length + budget, prompt.capacity)
        self._keys = prompt._keys[:, :, :, : self.capacity].repeat(1, samples, 1, 1, 1)
        self._values = prompt._values[:, :, :, : self.capacity].repeat(1, samples, 1, 1, 1)
        self._tokens, self._mask = prompt._tokens[:, : self.capacity + 1].repeat(samples, 1), None

    def keep(self, samples: list[int]) -> None:
        """Forget the others."""
        self._keys, self._values = self._keys[:, samples], self._values[:, samples]
        self._tokens = self._tokens[samples]


def _choose(logits: Tensor, allowed: np.ndarray | None) -> int:
    if allowed is None:
        return int(logits.argmax())
    candidates = torch.from_numpy(allowed).to(logits.device)
    return int(candidates[logits[candidates].argmax()])


def _draw(scores: Tensor, allowed: np.ndarray | None, generator: torch.Generator) -> int:
    candidates = torch.from_numpy(allowed) if allowed is not None else None
    chances = (scores[candidates] if candidates is not None else scores).softmax(-1)
    choice = int(torch.multinomial(chances, 1, generator=generator))
    return int(candidates[choice]) if candidates is not None else choice
