"""One request on its way through the engine: tokens in, text out."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

from inference_service.engine.prompt import Prompt
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason, Stats
from inference_service.engine.sampler import Sampler
from inference_service.engine.slots import Slot
from inference_service.engine.stopping import StopDetector
from inference_service.model.healing import Vocabulary
from inference_service.model.kv_cache import KVCache
from inference_service.model.tokenizer import Tokenizer


class Sequence:
    """State of one request. `emit` is called on the engine's thread; the last call carries the finish reason."""

    def __init__(self, request: CompletionRequest, tokenizer: Tokenizer, emit: Callable[[Chunk], None]) -> None:
        self.request = request
        self.prompt: Prompt | None = None  # built on the engine's thread
        self.slot: Slot[KVCache] | None = None
        self.sampler = Sampler(request)
        self.end_reason: FinishReason | None = None  # set from outside: superseded, cancelled, shutdown
        self._tokenizer, self._emit = tokenizer, emit
        self._stopping = StopDetector(request.prompt, request.mode, request.stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed = b""
        self._logprobs: list[tuple[str, float]] = []
        self._unsent_logprobs = 0
        self._cached = 0
        self._submitted = time.monotonic()
        self._started = self._prefilled = self._submitted

    def begin(self, slot: Slot[KVCache]) -> None:
        assert self.prompt is not None
        self.slot = slot
        self._typed = self.prompt.typed
        self._cached = slot.cache.length
        self._started = self._prefilled = time.monotonic()

    def prefill_left(self) -> list[int]:
        """Prompt and generated tokens whose keys and values are not in the cache yet."""
        assert self.slot is not None
        return self.slot.tokens[self.slot.cache.length :]

    def prefill_done(self) -> None:
        self._prefilled = time.monotonic()

    def allowed(self, vocabulary: Vocabulary) -> list[int] | None:
        """Token ids that may come next while typed bytes are spelled again, or None for all."""
        return vocabulary.continuing(self._typed) if self._typed else None

    def push(self, token: int, logprob: float) -> FinishReason | None:
        """Take a generated token; emits its text and returns why the completion ends with it, or None."""
        assert self.slot is not None
        if self._tokenizer.is_sentinel(token):
            return "stop"
        self.slot.tokens.append(token)
        text = self._tokenizer.token_bytes(token)
        overlap = min(len(self._typed), len(text))
        self._typed, new = self._typed[overlap:], text[overlap:]
        if self._typed or not new:
            return None
        piece = self._utf8.decode(new)
        self._logprobs.append((piece, logprob))
        send, ended = self._stopping.push(piece)
        if send:
            self._send(send)
        if ended:
            return "stop"
        return "length" if len(self._logprobs) >= self.request.max_tokens else None

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """Emit the last chunk. A completion that ends by itself first emits what was held back."""
        # bytes of an unfinished character stay in the decoder: nobody wants half a letter
        ends_itself = reason in ("stop", "length", "deadline")
        text = self._stopping.finish(whole_lines=reason == "deadline") if ends_itself else ""
        now = time.monotonic()
        started = self.slot is not None
        values = [logprob for _, logprob in self._logprobs]
        stats = Stats(
            prompt_tokens=len(self.prompt.tokens) if self.prompt else 0,
            cached_tokens=self._cached,
            completion_tokens=len(values),
            mean_logprob=sum(values) / len(values) if values else None,
            queue_ms=((self._started if started else now) - self._submitted) * 1e3,
            prefill_ms=(self._prefilled - self._started) * 1e3,
            decode_ms=(now - self._prefilled) * 1e3 if started else 0.0,
        )
        self._emit(Chunk(text, self._take_logprobs(), reason, stats, error))

    def _send(self, text: str) -> None:
        self._emit(Chunk(text, self._take_logprobs()))

    def _take_logprobs(self) -> tuple[tuple[str, float], ...]:
        taken = tuple(self._logprobs[self._unsent_logprobs :])
        self._unsent_logprobs = len(self._logprobs)
        return taken
