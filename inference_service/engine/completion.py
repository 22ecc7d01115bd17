"""The text side of one request: tokens in, chunks of text out."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

from inference_service.engine.prompt import Prompt
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason, Stats
from inference_service.engine.sampler import Sampling
from inference_service.engine.sequence import Sequence
from inference_service.engine.speculation import Guess, PromptLookup, Speculation
from inference_service.engine.stopping import StopDetector
from inference_service.model.tokenizer import Tokenizer


class Completion:
    """State of one request. `emit` is called on the engine's thread; the last call carries the finish reason."""

    def __init__(self, request: CompletionRequest, tokenizer: Tokenizer, emit: Callable[[Chunk], None]) -> None:
        self.request = request
        self.sequence: Sequence | None = None  # once it is tokenized
        self.end_reason: FinishReason | None = None  # set from outside: superseded, cancelled, shutdown
        self.instead_of: Completion | None = None  # what its session asked for before and had not got
        self.typed = b""  # bytes at the cursor that the first tokens have to spell again
        self.generated = 0  # tokens so far, those that spell typed bytes included
        self.sampling = Sampling(request.temperature, request.top_k, request.top_p, request.min_p, request.seed)
        self._tokenizer, self._emit = tokenizer, emit
        self._stopping = StopDetector(
            request.prompt, request.mode, request.stop, whole_lines=request.deadline is not None
        )
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._lookup: PromptLookup | None = None
        self._guess: Guess | None = None
        self._prompt_tokens = 0
        self._logprobs: list[tuple[str, float]] = []
        self._unsent_logprobs = 0
        self._submitted = time.monotonic()
        self._started: float | None = None
        self._prefilled: float | None = None

    def tokenized(self, prompt: Prompt, root: object) -> Sequence:
        """The sequence that computes `prompt`."""
        self.typed = prompt.typed
        self._prompt_tokens = len(prompt.tokens)
        request = self.request
        # within a priority that was asked for, a line that somebody waits for goes before a whole block
        priority = 2 * request.priority + (request.mode != "line")
        self.sequence = Sequence(prompt.tokens, root, (request.tenant, request.user), priority)
        return self.sequence

    def given_up(self) -> Sequence | None:
        """The sequence whose place in the queue is this one's: of its session, and not answered yet."""
        assert self.sequence is not None
        before, self.instead_of = self.instead_of, None
        while before is not None and before.sequence is None:  # ended before it was tokenized
            before = before.instead_of
        if before is None or before.generated or before.sequence is None or before.sequence.user != self.sequence.user:
            return None
        return before.sequence

    def started(self) -> None:
        """The first step computes something of it."""
        self._started = self._started or time.monotonic()

    def push(self, token: int, logprob: float) -> FinishReason | None:
        """Take a generated token; emits its text and returns why the completion ends with it, or None."""
        self._prefilled = self._prefilled or time.monotonic()
        self.generated += 1
        if self._tokenizer.is_sentinel(token):
            return "stop"
        text = self._tokenizer.token_bytes(token)
        overlap = min(len(self.typed), len(text))
        self.typed, new = self.typed[overlap:], text[overlap:]
        if self.typed or not new:
            return None
        piece = self._utf8.decode(new)
        self._logprobs.append((piece, logprob))
        send, ended = self._stopping.push(piece)
        if send:
            self._emit(Chunk(send, self._take_logprobs()))
        if ended:
            return "stop"
        return "length" if len(self._logprobs) >= self.request.max_tokens else None

    def guess(self, speculation: Speculation, context_length: int, others: int) -> None:
        """Let the next step, beside `others` sequences, verify a guess of the tokens after the last one, where there
        is one to make."""
        assert self.sequence is not None
        tokens = self.sequence.tokens
        left = min(self.request.max_tokens - len(self._logprobs), context_length - len(tokens)) - 1
        if self.typed or left < 1:
            return
        self._lookup = self._lookup or PromptLookup(speculation, self.sequence.root, tokens)
        self._guess = self._lookup.propose(tokens, others)
        if self._guess is not None:
            self.sequence.draft = self._guess.tokens[:left]

    def verified(self, guessed: list[int], right: int) -> None:
        """Of the `guessed` tokens, the first `right` came true."""
        assert self._lookup is not None and self._guess is not None
        self._lookup.verified(Guess(guessed, self._guess.matched), right)

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """Emit the last chunk. A completion that ends by itself first emits what was held back."""
        # bytes of an unfinished character stay in the decoder: nobody wants half a letter
        ends_itself = reason in ("stop", "length", "deadline")
        text = self._stopping.finish(whole_lines=reason == "deadline") if ends_itself else ""
        now = time.monotonic()
        started = self._started or now
        prefilled = self._prefilled or now
        values = [logprob for _, logprob in self._logprobs]
        stats = Stats(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self.sequence.cached if self.sequence else 0,
            completion_tokens=len(values),
            mean_logprob=sum(values) / len(values) if values else None,
            queue_ms=(started - self._submitted) * 1e3,
            prefill_ms=(prefilled - started) * 1e3,
            decode_ms=(now - prefilled) * 1e3,
        )
        self._emit(Chunk(text, self._take_logprobs(), reason, stats, error))

    def _take_logprobs(self) -> tuple[tuple[str, float], ...]:
        taken = tuple(self._logprobs[self._unsent_logprobs :])
        self._unsent_logprobs = len(self._logprobs)
        return taken
