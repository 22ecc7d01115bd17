"""What goes into the engine and what comes out: plain data, no torch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "deadline", "superseded", "cancelled", "shutdown", "error"]
Mode = Literal["auto", "line", "block"]


def new_id() -> str:
    """Of a completion."""
    return f"cmpl-{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class ContextFile:
    """Another file of the workspace that helps to complete this one."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One completion of `prompt` (the text before the cursor).

    `suffix` is the text after the cursor; None means plain left-to-right continuation, "" means the cursor
    stands at the end of the file. `mode` "line" ends before the first newline, "block" when the indentation
    falls below the block that is being written, "auto" leaves the end to the model. `session` names the
    document (tenant and document): a newer request of the same session supersedes the older one.
    `language` is LSP's identifier of it, for the statistics.
    Cached prefixes are shared within a `tenant` only; engine time is dealt fairly among its `user`s, smaller
    `priority` first. `deadline` is a `time.monotonic()` instant; past it the best whole-line part is returned.
    """

    prompt: str
    suffix: str | None = None
    path: str | None = None
    language: str = ""
    context: tuple[ContextFile, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    mode: Mode = "auto"
    session: str | None = None
    deadline: float | None = None
    tenant: str = ""
    user: str = ""
    priority: int = 0
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Stats:
    """Accounting of one finished request. Times in milliseconds. `response_cached`: nothing was computed for it."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    mean_logprob: float | None = None
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    response_cached: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a completion. Only the last chunk carries `finish_reason` and `stats`; its text may be empty.

    `token_logprobs` holds (token text, log probability in nats) for each token of this chunk.
    """

    text: str
    token_logprobs: tuple[tuple[str, float], ...] = ()
    finish_reason: FinishReason | None = None
    stats: Stats | None = None
    error: str | None = None
