"""What clients send. A field's `title` is what it means, its `description` what the error message says it must be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_PROMPTS = 64
MAX_BATCH = 256
_MAX_TOKENS = "an integer from 1 to the service's max_tokens limit, see /info"


def _well_formed(text: str) -> str:
    """Python's JSON reader lets "\\ud800" through, and pydantic too, but no tokenizer can encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "unpaired surrogate") from None
    return text


def _text_only(prompt: Any) -> Any:
    """OpenAI's API also takes tokens, of its own tokenizers: better refused than completed as nonsense."""
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(first, int | list) and not isinstance(first, bool):
        raise PydanticCustomError(
            "told", f"must be a string or a list of 1 to {MAX_PROMPTS} strings: token ids are not supported"
        )
    return prompt


def _integral(value: Any) -> Any:
    """JSON knows numbers only, and some languages write 5 as 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Int = Annotated[int, BeforeValidator(_integral)]
# Limits of what may be absent stand inside of `| None`, and before a validator of ours: elsewhere pydantic keeps them
# too, but the document does not tell them.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63), BeforeValidator(_integral)]
Logprobs = Annotated[int, Field(ge=0, le=5), BeforeValidator(_integral)]
AcceptedChars = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(_integral)]
Text = Annotated[str, AfterValidator(_well_formed)]
Stop = Annotated[Text, Field(min_length=1, max_length=256)]


class _Body(BaseModel):
    # strict: "5" is not 5; unknown fields are ignored, as OpenAI's clients expect.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, protected_namespaces=())


class ContextItem(_Body):
    """A file that helps to complete the prompt."""

    path: Text = Field(max_length=1024)
    text: Text


class StreamOptions(_Body):
    """With `include_usage` the usage comes in an extra last chunk without choices, as OpenAI does it."""

    include_usage: bool = False


class MidfillOptions(_Body):
    """What OpenAI's API has no field for and what changes the text that comes."""

    filters: bool = False


Options = Annotated[
    MidfillOptions,
    Field(
        title="`filters` cuts repetition and text that the suffix has, drops secrets and what the model doubts",
        description="an object with filters, which is true or false",
    ),
]


class CompletionBody(_Body):
    """`POST /v1/completions`: OpenAI's text completion and our own fields."""

    prompt: Annotated[
        Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)], BeforeValidator(_text_only)
    ] = Field(
        title="text before the cursor, or several for several answers",
        description=f"a string or a list of 1 to {MAX_PROMPTS} strings",
    )
    model: Text | None = Field(None, title='the served model, "midfill", or nothing', description="a string")
    suffix: Text | None = Field(
        None,
        title='text after the cursor; "" is the end of the file, absent means plain continuation',
        description="a string",
    )
    max_tokens: Int = Field(16, ge=1, title="most tokens to generate", description=_MAX_TOKENS)
    temperature: float = Field(1.0, ge=0, le=2, title="0 takes the likeliest token", description="a number from 0 to 2")
    top_p: float = Field(1.0, gt=0, le=1, title="nucleus sampling", description="a number above 0 and up to 1")
    top_k: Int = Field(
        0,
        ge=0,
        le=1_000_000,
        title="sample among the k likeliest tokens",
        description="an integer from 0 (off) to 1000000",
    )
    min_p: float = Field(
        0.0,
        ge=0,
        le=1,
        title="sample among tokens with at least this share of the likeliest one's probability",
        description="a number from 0 (off) to 1",
    )
    n: Int = Field(1, ge=1, le=8, title="choices for each prompt", description="an integer from 1 to 8")
    best_of: Int = Field(
        1,
        ge=1,
        le=8,
        title="completions to generate for each prompt; the `n` likeliest are told, in a stream at its end",
        description="an integer from 1 to 8",
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] = Field(
        default_factory=list,
        title="where to end; it is not part of the text",
        description="a string or a list of at most 8 strings of 1 to 256 characters",
    )
    stream: bool = Field(False, title="server-sent events, ending with `data: [DONE]`", description="true or false")
    stream_options: StreamOptions = Field(
        StreamOptions(),
        title="`include_usage` adds a last chunk with the usage and no choices",
        description="an object with include_usage, which is true or false",
    )
    seed: Seed | None = Field(None, title="the same request gives the same answer", description="an integer of 64 bits")
    logprobs: Logprobs | None = Field(
        None,
        title="log probabilities of the tokens; from 1 on with `top_logprobs` of the chosen ones",
        description="an integer from 0 to 5",
    )
    echo: bool = Field(
        False,
        title="repeat the prompt before the completion; without log probabilities of its own",
        description="true or false",
    )
    user: Annotated[Text, Field(max_length=256)] | None = Field(
        None,
        title="who types; engine time is dealt fairly among users",
        description="a string of at most 256 characters",
    )
    path: Annotated[Text, Field(max_length=1024)] | None = Field(
        None, title="path of the file", description="a string of at most 1024 characters"
    )
    language: Annotated[Text, Field(max_length=64)] | None = Field(
        None, title="language of the file", description="a string of at most 64 characters"
    )
    context: list[ContextItem] = Field(
        default_factory=list,
        max_length=64,
        title="other files that help, most stable first",
        description="a list of at most 64 objects {path, text}, path of at most 1024 characters",
    )
    mode: Literal["auto", "line", "block"] = Field(
        "auto",
        title='"line" ends before the break, "block" when the indentation leaves the block, auto is up to the model',
        description="auto, line or block",
    )
    session: Annotated[Text, Field(min_length=1, max_length=256)] | None = Field(
        None,
        title="names the document: a newer request ends the older one; also as the header X-Midfill-Session",
        description="a string of 1 to 256 characters",
    )
    deadline_ms: Annotated[float, Field(ge=1, le=600_000)] | None = Field(
        None,
        title="what is there by then is returned, in whole lines",
        description="a number from 1 to 600000",
    )
    priority: Int = Field(0, ge=-100, le=100, title="smaller goes first", description="an integer from -100 to 100")

    midfill: Options = MidfillOptions()

    @property
    def prompts(self) -> tuple[str, ...]:
        """One or several prompts."""
        return (self.prompt,) if isinstance(self.prompt, str) else tuple(self.prompt)

    @property
    def candidates(self) -> int:
        """Completions to generate for each prompt; `best_of` below `n` asks for no more than `n`."""
        return max(self.n, self.best_of)

    @property
    def stops(self) -> tuple[str, ...]:
        """No, one or several stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompleteBody(_Body):
    """`POST /complete`: the short form for scripts."""

    code: Text = Field(title="text before the cursor", description="a string")
    suffix: Text | None = Field(None, title="text after the cursor", description="a string")
    max_tokens: Int = Field(50, ge=1, title="most tokens to generate", description=_MAX_TOKENS)
    temperature: float = Field(0.8, ge=0, le=2, title="0 takes the likeliest token", description="a number from 0 to 2")
    top_k: Int = Field(
        200,
        ge=0,
        le=1_000_000,
        title="sample among the k likeliest tokens",
        description="an integer from 0 (off) to 1000000",
    )
    midfill: Options = MidfillOptions()


class BatchBody(_Body):
    """`POST /complete/batch`. The items are validated one by one, so that a bad one fails alone."""

    requests: list[Any] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        title="bodies of /complete",
        description=f"a list of 1 to {MAX_BATCH} objects",
    )


class EventBody(_Body):
    """`POST /v1/events`: what became of a completion in the editor. Ids only, no code."""

    completion_id: Text = Field(
        min_length=1, max_length=128, title="`id` of the answer", description="a string of 1 to 128 characters"
    )
    event: Literal["shown", "accepted", "partially_accepted", "dismissed", "persisted"] = Field(
        title="what happened", description="shown, accepted, partially_accepted, dismissed or persisted"
    )
    accepted_chars: AcceptedChars | None = Field(
        None, title="characters that were taken", description="an integer from 0 to 1000000"
    )


class ExperimentBody(_Body):
    """`PUT /admin/experiments`: which version is tried on which share of the sessions."""

    version: Text = Field(
        min_length=1, max_length=128, title="of GET /admin/models", description="a string of 1 to 128 characters"
    )
    kind: Literal["shadow", "canary"] = Field(
        title="canary answers its share of the sessions, shadow computes what nobody sees",
        description="shadow or canary",
    )
    percent: float = Field(ge=0, le=100, title="share of the sessions", description="a number from 0 to 100")
    min_samples: Int = Field(
        50, ge=10, le=1_000_000, title="nothing is judged on fewer", description="an integer from 10 to 1000000"
    )
    max_error_rate: float = Field(
        0.02, ge=0, le=1, title="share of completions that may fail", description="a number from 0 to 1"
    )
    max_latency_ratio: float = Field(
        2.0, ge=1, le=100, title="factor on the active version's 95th percentile", description="a number from 1 to 100"
    )
