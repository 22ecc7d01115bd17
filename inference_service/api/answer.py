"""The JSON of one answer of `/v1/completions`, whole or in parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from inference_service.api import results as shapes
from inference_service.api.results import Result, Sums
from inference_service.api.run import Run
from inference_service.api.schemas import CompletionBody
from inference_service.output_filters.pipeline import Verdict, judge

Tokens = Sequence[tuple[str, float]]


class Answer:
    """Takes the chunks of `len(body.prompts) * body.candidates` completions, tells those that were asked for."""

    def __init__(self, run: Run, body: CompletionBody, model: str) -> None:
        self.body = body
        self.results = [Result() for _ in range(len(body.prompts) * body.candidates)]
        self._run = run
        self._frame = {
            "id": run.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    @property
    def held(self) -> bool:
        """Which choices are told, or what of them, is known only when all candidates have ended."""
        return self.body.candidates > self.body.n or self.body.midfill.filters

    @cached_property
    def sums(self) -> Sums:
        """Of all completions, once they have ended."""
        return shapes.sum_up(self.results, self.body.candidates)

    def whole(self) -> dict[str, Any]:
        """The answer without streaming."""
        return {**self._frame, "choices": self._choices(), **self.totals()}

    def totals(self) -> dict[str, Any]:
        """What the whole answer and the last chunk of a stream end with."""
        return {
            "usage": shapes.usage_json(self.sums),
            "midfill": shapes.midfill_json(self.sums, self._run.deployment.model.version) | self._filtered(),
        }

    def part(self, index: int, text: str, tokens: Tokens = (), reason: str | None = None) -> dict[str, Any]:
        """The next piece of a choice; its result has not taken it yet."""
        offset = len(self.echoed(index)) + self.results[index].token_chars
        return {**self._frame, "choices": [self._choice(index, text, tokens, reason, offset)]}

    def parts(self) -> list[dict[str, Any]]:
        """Each choice in one piece, for a stream that has to know the end before it can tell anything."""
        return [{**self._frame, "choices": [choice]} for choice in self._choices()]

    def usage_only(self) -> dict[str, Any]:
        """The extra last chunk of `include_usage`."""
        return {**self._frame, "choices": [], "usage": shapes.usage_json(self.sums)}

    def echoed(self, index: int) -> str:
        """The prompt of a choice, where it is to be repeated."""
        return self.body.prompts[index // self.body.n] if self.body.echo else ""

    def _choices(self) -> list[dict[str, Any]]:
        choices = []
        for index, result in enumerate(self._best()):
            echoed = self.echoed(index)
            text, tokens = result.text, result.logprobs
            if self.body.midfill.filters:
                text = self._verdict(index, result).text
                tokens = shapes.tokens_of(tokens, len(text))
            choices.append(self._choice(index, echoed + text, tokens, result.finish_reason, len(echoed)))
        return choices

    def _verdict(self, index: int, result: Result) -> Verdict:
        body = self.body
        python = body.language == "python" or (body.path or "").endswith(".py")
        return judge(
            result.text,
            before=body.prompts[index // body.n],
            after=body.suffix or "",
            language="python" if python else "",
            mean_logprob=result.stats.mean_logprob,
        )

    def _filtered(self) -> dict[str, Any]:
        """What the filters say of each choice, where they were asked."""
        if not self.body.midfill.filters:
            return {}
        verdicts = [self._verdict(index, result) for index, result in enumerate(self._best())]
        return {"filtered": [{"reasons": list(one.reasons), "syntax": one.syntax} for one in verdicts]}

    def _best(self) -> list[Result]:
        """Of each prompt's candidates the `n` with the highest mean log probability, best first."""
        n, candidates = self.body.n, self.body.candidates
        if candidates == n:
            return self.results
        best: list[Result] = []
        for start in range(0, len(self.results), candidates):
            group = self.results[start : start + candidates]
            best += sorted(group, key=shapes.confidence, reverse=True)[:n]
        return best

    def _choice(self, index: int, text: str, tokens: Tokens, reason: str | None, offset: int) -> dict[str, Any]:
        top = self.body.logprobs
        return {
            "index": index,
            "text": text,
            "logprobs": None if top is None else shapes.logprobs_json(tokens, top, offset),
            "finish_reason": reason,
        }
