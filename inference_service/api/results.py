"""Finished completions, and how they look in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_service.engine.request import Chunk, FinishReason, Stats


@dataclass(slots=True)
class Result:
    """One completion as far as it has come. `logprobs` holds (token text, nats) of each token."""

    text: str = ""
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stats: Stats = field(default_factory=Stats)

    def add(self, chunk: Chunk) -> None:
        """Append a chunk."""
        self.text += chunk.text
        self.logprobs += chunk.token_logprobs
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


def usage_json(results: Sequence[Result], n: int) -> dict[str, Any]:
    """OpenAI's `usage` of the whole answer: each prompt counts once, however many (`n`) choices it has."""
    firsts = [result.stats for result in results[::n]]
    prompt = sum(stats.prompt_tokens for stats in firsts)
    cached = sum(stats.cached_tokens for stats in firsts)
    completion = sum(result.stats.completion_tokens for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cached_tokens": cached,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def midfill_json(results: Sequence[Result], version: str) -> dict[str, Any]:
    """Our own part of the answer: mean log probability per token in nats, the longest times in ms.

    `cached` is there, and true, where nothing was computed.
    """
    stats = [result.stats for result in results]
    weighted = [
        (item.mean_logprob, item.completion_tokens)
        for item in stats
        if item.mean_logprob is not None and item.completion_tokens
    ]
    tokens = sum(count for _, count in weighted)
    mean = sum(value * count for value, count in weighted) / tokens if tokens else None
    return {
        "mean_logprob": mean if mean is None or math.isfinite(mean) else None,
        "queue_ms": round(max(item.queue_ms for item in stats), 3),
        "prefill_ms": round(max(item.prefill_ms for item in stats), 3),
        "decode_ms": round(max(item.decode_ms for item in stats), 3),
        "model_version": version,
    } | ({"cached": True} if stats and all(item.response_cached for item in stats) else {})


def server_timing(results: Sequence[Result]) -> str:
    """The `Server-Timing` header (W3C) of a finished answer: longest times in ms."""
    stats = [result.stats for result in results]
    times = {
        "queue": max(item.queue_ms for item in stats),
        "prefill": max(item.prefill_ms for item in stats),
        "decode": max(item.decode_ms for item in stats),
    }
    return ", ".join(f"{name};dur={value:.2f}" for name, value in times.items())


def log_json(results: Sequence[Result], n: int) -> dict[str, Any]:
    """What the request's log line says about the completions: counts and times."""
    usage = usage_json(results, n)
    return {
        "choices": len(results),
        "finish_reason": ",".join(sorted({result.finish_reason or "error" for result in results})),
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["cached_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "queue_ms": round(max(result.stats.queue_ms for result in results), 2),
        "prefill_ms": round(max(result.stats.prefill_ms for result in results), 2),
        "decode_ms": round(max(result.stats.decode_ms for result in results), 2),
    }
