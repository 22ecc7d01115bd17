"""Finished completions, and how they look in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_service.engine.request import Chunk, FinishReason, Stats


@dataclass(slots=True)
class Result:
    """One completion as far as it has come. `logprobs` holds (token text, nats) of each token, `token_chars` how many
    characters those are and `total_logprob` their sum."""

    text: str = ""
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    token_chars: int = 0
    total_logprob: float = 0.0
    finish_reason: FinishReason | None = None
    stats: Stats = field(default_factory=Stats)

    def add(self, chunk: Chunk) -> None:
        """Append a chunk."""
        self.text += chunk.text
        self.logprobs += chunk.token_logprobs
        for token, logprob in chunk.token_logprobs:
            self.token_chars += len(token)
            self.total_logprob += logprob
        if chunk.finish_reason:
            self.finish_reason = chunk.finish_reason
            self.stats = chunk.stats or Stats(completion_tokens=len(self.logprobs))


def tokens_of(tokens: Sequence[tuple[str, float]], chars: int) -> list[tuple[str, float]]:
    """The first tokens, as far as the first `chars` characters reach."""
    kept = []
    for text, value in tokens:
        if chars <= 0:
            break
        kept.append((text, value))
        chars -= len(text)
    return kept


def confidence(result: Result) -> float:
    """Mean log probability per token, nats; -inf without a token or when it is not a number."""
    mean = result.stats.mean_logprob
    return mean if mean is not None and math.isfinite(mean) else -math.inf


def logprobs_json(tokens: Sequence[tuple[str, float]], top: int, offset: int) -> dict[str, Any]:
    """OpenAI's `logprobs` object of a piece of text that starts at character `offset` of the choice's text.

    Of the alternatives only the chosen token is known: `top_logprobs` has that one (or is null for top = 0).
    """
    offsets = []
    for text, _ in tokens:
        offsets.append(offset)
        offset += len(text)
    # JSON has no -inf; -9999 is what OpenAI-compatible servers send in its place.
    values = [value if math.isfinite(value) else -9999.0 for _, value in tokens]
    return {
        "tokens": [text for text, _ in tokens],
        "token_logprobs": values,
        "top_logprobs": [{text: value} for (text, _), value in zip(tokens, values, strict=True)] if top else None,
        "text_offset": offsets,
    }


@dataclass(frozen=True, slots=True)
class Sums:
    """Of all completions of one answer: tokens, mean log probability per token in nats, the longest times in ms."""

    choices: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    mean_logprob: float | None
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    response_cached: bool
    finish_reasons: str


def sum_up(results: Sequence[Result], n: int) -> Sums:
    """Each prompt counts once, however many (`n`) choices it has."""
    prompt = cached = completion = weight = 0
    total = queue = prefill = decode = 0.0
    response_cached = True
    for index, result in enumerate(results):
        stats = result.stats
        if index % n == 0:
            prompt += stats.prompt_tokens
            cached += stats.cached_tokens
        completion += stats.completion_tokens
        if stats.mean_logprob is not None:
            total += stats.mean_logprob * stats.completion_tokens
            weight += stats.completion_tokens
        queue, prefill = max(queue, stats.queue_ms), max(prefill, stats.prefill_ms)
        decode = max(decode, stats.decode_ms)
        response_cached = response_cached and stats.response_cached
    reasons = ",".join(sorted({result.finish_reason or "error" for result in results}))
    mean = total / weight if weight and math.isfinite(total) else None
    return Sums(
        len(results),
        prompt,
        cached,
        completion,
        mean,
        queue,
        prefill,
        decode,
        response_cached and bool(results),
        reasons,
    )


def usage_json(sums: Sums) -> dict[str, Any]:
    """OpenAI's `usage` of the whole answer."""
    return {
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_tokens": sums.prompt_tokens + sums.completion_tokens,
        "cached_tokens": sums.cached_tokens,
        "prompt_tokens_details": {"cached_tokens": sums.cached_tokens},
    }


def midfill_json(sums: Sums, version: str) -> dict[str, Any]:
    """Our own part of the answer. `cached` is there, and true, where nothing was computed."""
    return {
        "mean_logprob": sums.mean_logprob,
        "queue_ms": round(sums.queue_ms, 3),
        "prefill_ms": round(sums.prefill_ms, 3),
        "decode_ms": round(sums.decode_ms, 3),
        "model_version": version,
    } | ({"cached": True} if sums.response_cached else {})


def server_timing(sums: Sums) -> str:
    """The `Server-Timing` header (W3C) of a finished answer."""
    return f"queue;dur={sums.queue_ms:.2f}, prefill;dur={sums.prefill_ms:.2f}, decode;dur={sums.decode_ms:.2f}"


def log_json(sums: Sums) -> dict[str, Any]:
    """What the request's log line says about the completions: counts and times."""
    return {
        "choices": sums.choices,
        "finish_reason": sums.finish_reasons,
        "prompt_tokens": sums.prompt_tokens,
        "cached_tokens": sums.cached_tokens,
        "completion_tokens": sums.completion_tokens,
        "queue_ms": round(sums.queue_ms, 2),
        "prefill_ms": round(sums.prefill_ms, 2),
        "decode_ms": round(sums.decode_ms, 2),
    }
