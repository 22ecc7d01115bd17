"""From the logits of one position to a token."""

from __future__ import annotations

import torch
from torch import Tensor

from inference_service.engine.request import CompletionRequest


class Sampler:
    """Greedy at temperature 0, else temperature, top-k and top-p (nucleus, Holtzman et al. 2020), in that order.

    Draws come from a generator of its own, so a seed gives the same text whatever else the engine computes.
    """

    def __init__(self, request: CompletionRequest) -> None:
        self._temperature, self._top_k, self._top_p = request.temperature, request.top_k, request.top_p
        self._generator = torch.Generator()
        if request.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(request.seed)

    def sample(self, logits: Tensor, allowed: list[int] | None) -> tuple[int, float]:
        """logits (V,) float32 -> (token, its log probability in nats before temperature and cuts).

        With `allowed` only those ids can come out. Raises FloatingPointError on NaN.
        """
        logprobs = logits.log_softmax(-1).cpu()
        if torch.isnan(logprobs[0]):
            raise FloatingPointError("the model returned NaN")
        candidates = torch.tensor(allowed) if allowed is not None else None
        scores = logprobs[candidates] if candidates is not None else logprobs
        choice = int(scores.argmax()) if self._temperature == 0 else self._draw(scores / self._temperature)
        token = int(candidates[choice]) if candidates is not None else choice
        return token, float(logprobs[token])

    def _draw(self, scores: Tensor) -> int:
        count = len(scores)
        values, indices = scores.topk(min(self._top_k, count) if self._top_k > 0 else count)  # descending
        probabilities = values.softmax(-1)
        if self._top_p < 1:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self._top_p, 0.0)
        return int(indices[torch.multinomial(probabilities, 1, generator=self._generator)])
