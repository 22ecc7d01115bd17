"""What the service answers, for the OpenAPI document. The handlers build plain dictionaries of these shapes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorDetail(_Answer):
    """Why the request was not answered. Names fields and limits, never quotes what was sent."""

    message: str = Field(description="one sentence that says what to do")
    type: str = Field(description="the class of the error")
    code: str = Field(description="stable name of the error")
    param: str | None = Field(description="the field at fault, where there is one")


class ErrorAnswer(_Answer):
    """Every answer of status 400 and above."""

    error: ErrorDetail


class Logprobs(_Answer):
    """Parallel lists, one entry a token; natural logarithms."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None = Field(description="the chosen token only; null for logprobs 0")
    text_offset: list[int] = Field(description="where the token begins in the choice's text, characters")


class Choice(_Answer):
    """One completion, or in a stream the next piece of it."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "deadline", "superseded", "cancelled", "shutdown"] | None = Field(
        description="null in a stream as long as the choice goes on"
    )


class PromptTokensDetails(_Answer):
    """OpenAI's place for the cached tokens."""

    cached_tokens: int


class Usage(_Answer):
    """Tokens of the whole answer; each prompt counts once, each generated choice counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = Field(description="prompt tokens that did not have to be computed")
    prompt_tokens_details: PromptTokensDetails


class Filtered(_Answer):
    """What the filters say of one choice."""

    reasons: list[Literal["low_confidence", "secret", "repeated_text", "in_suffix"]]
    syntax: bool | None = Field(description="whether the file parses with it; null where that is not known")


class Accounting(BaseModel):
    """Our own part of the answer: what it cost and which model gave it."""

    model_config = ConfigDict(protected_namespaces=())

    mean_logprob: float | None = Field(description="mean log probability per token in nats, null without a token")
    queue_ms: float = Field(description="longest wait for the engine")
    prefill_ms: float = Field(description="longest computation of a prompt")
    decode_ms: float = Field(description="longest generation")
    model_version: str
    filtered: list[Filtered] | None = Field(None, description="one a choice, where filters were asked for")
    cached: bool = Field(False, description="there, and true, when the answer had been given before")


class CompletionAnswer(_Answer):
    """OpenAI's text completion and our accounting."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970")
    model: str
    choices: list[Choice]
    usage: Usage
    midfill: Accounting


class CompletionChunk(_Answer):
    """One event of a stream: the next piece of one choice, or with `include_usage` the usage at the end."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = Field(None, description="in the last one; with `include_usage` null in the others")
    mean_logprob: float | None = Field(None, description="nats a token, so far; in all but the last one")
    midfill: Accounting | None = Field(None, description="in the last one with a choice")


class CancelAnswer(_Answer):
    """Whether there was something to cancel."""

    id: str
    cancelled: bool


class CompleteAnswer(_Answer):
    """The short form."""

    completion: str
    tokens: int
    latency_ms: float = Field(description="receipt of the request to the answer")
    id: str
    model: str
    filtered: Filtered | None = Field(None, description="where filters were asked for")


class BatchAnswer(_Answer):
    """One entry for each request, in order."""

    results: list[CompleteAnswer | ErrorAnswer]


class EventAnswer(_Answer):
    """The event is counted."""

    status: Literal["accepted"]


class Model(_Answer):
    """The served model in OpenAI's shape, with its version and context length in tokens."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    context_length: int
    supports_suffix: bool


class ModelList(_Answer):
    """OpenAI's list shape."""

    object: Literal["list"]
    data: list[Model]


class Info(BaseModel):
    """What this process is and allows; no secrets."""

    service: Literal["midfill"]
    status: str
    build: dict[str, str]
    device: str
    model: dict[str, Any] | None
    backend: dict[str, Any] | None
    limits: dict[str, Any]
    settings: dict[str, Any]


class Alive(_Answer):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """A completion would be taken now."""

    status: Literal["ready"]
    degraded: dict[str, str] | None = None


class NotReady(BaseModel):
    """Why no completion would be taken now."""

    status: Literal["unavailable"]
    reason: str
    error: ErrorDetail
    degraded: dict[str, str] | None = None


class Health(_Answer):
    """State in one word: ok, loading, draining or failed."""

    status: str
    model_loaded: bool
    device: str


class StoredVersion(_Answer):
    """A version that is loaded or stored. `version` "base" is the model that the settings name."""

    version: str | None = Field(description="what to activate; null where `problem` says why it cannot be")
    content: str | None = Field(description="digest of the files")
    folder: str | None
    problem: str | None
    loaded: bool
    role: Literal["active", "previous", "candidate"] | None


class VersionList(_Answer):
    """Everything that serves or could."""

    model: str
    active: str
    previous: str | None
    models: list[StoredVersion]


class Activated(_Answer):
    """Which version serves from now on."""

    active: str
    before: str
    took_ms: float


class ArmFigures(_Answer):
    """Counts of one version in an experiment."""

    completions: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    slow: int = Field(description="beyond the latency limit")
    shown: int
    accepted: int


class ExperimentLimits(_Answer):
    """When a canary is taken back."""

    min_samples: int
    max_error_rate: float
    max_latency_ratio: float


class ExperimentFigures(_Answer):
    """An experiment and what was counted since it began in this process."""

    version: str
    kind: Literal["shadow", "canary"]
    percent: float
    limits: ExperimentLimits
    control: ArmFigures
    candidate: ArmFigures
    agreement: float | None = Field(description="share of the shadow's greedy answers that were the same")
    compared: int
    skipped: int


class RolledBack(ExperimentFigures):
    """An experiment that was ended by its limits."""

    reason: Literal["errors", "latency", "acceptance"]


class ExperimentList(_Answer):
    """At most one experiment runs."""

    experiments: list[ExperimentFigures]
    last_rollback: RolledBack | None
