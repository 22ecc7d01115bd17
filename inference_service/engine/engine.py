"""The engine: one thread that prefills and decodes all running sequences in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import torch

from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import Chunk, CompletionRequest, FinishReason
from inference_service.engine.runner import Runner
from inference_service.engine.sequence import Sequence
from inference_service.engine.slots import Slots
from inference_service.model.healing import Vocabulary
from inference_service.model.kv_cache import KVCache
from inference_service.model.tokenizer import Tokenizer

SLOTS = 16
PREFILL_CHUNK = 256  # tokens of one sequence before the others get their turn

log = logging.getLogger(__name__)


class Engine:
    """Runs completions on its own thread. Methods are safe to call from any thread.

    Newest wins: a request supersedes every unfinished one of the same session. An abort takes effect before the
    sequence's next step.
    """

    def __init__(self, runner: Runner, tokenizer: Tokenizer) -> None:
        self._runner, self._tokenizer = runner, tokenizer
        self._vocabulary = Vocabulary(tokenizer)
        self._slots: Slots[KVCache] = Slots(SLOTS, runner.new_cache)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="midfill-engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def submit(self, request: CompletionRequest, emit: Callable[[Chunk], None]) -> None:
        """Queue a request; `emit` gets its chunks on the engine's thread, the last one with a finish reason."""
        sequence = Sequence(request, self._tokenizer, emit)
        with self._changed:
            if self._stopped:
                sequence.end_reason = "shutdown"
            if request.session is not None:
                for other in (*self._waiting, *self._running):
                    if other.request.session == request.session:
                        other.end_reason = other.end_reason or "superseded"
            self._waiting.append(sequence)
            self._changed.notify()

    def cancel(self, completion_id: str) -> bool:
        """End an unfinished request with reason "cancelled"; False when there is none of that id."""
        with self._changed:
            for sequence in (*self._waiting, *self._running):
                if sequence.request.id == completion_id and sequence.end_reason is None:
                    sequence.end_reason = "cancelled"
                    return True
        return False

    def stop(self) -> None:
        """End everything with reason "shutdown" and the thread with it."""
        with self._changed:
            self._stopped = True
            for sequence in (*self._waiting, *self._running):
                sequence.end_reason = sequence.end_reason or "shutdown"
            self._changed.notify()
        self._thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._running or self._stopped):
                    self._changed.wait()
                waiting = list(self._waiting)
            self._build_prompts(waiting)
            with self._changed:
                self._admit()
                if self._stopped and not (self._waiting or self._running):
                    return
                sequences = list(self._running)
            for sequence in sequences:
                reason = sequence.end_reason
                if reason is None:
                    try:
                        reason = self._step(sequence)
                    except Exception as fault:  # one request's fault must not reach the others
                        self._free(sequence)
                        self._fail(sequence, fault)
                        continue
                if reason is not None:
                    self._free(sequence)
                    sequence.finish(reason)

    def _build_prompts(self, sequences: list[Sequence]) -> None:
        """Tokenize, without the lock: `submit` is called on an event loop and must not wait for that."""
        for sequence in sequences:
            if sequence.prompt is None and sequence.end_reason is None:
                try:
                    sequence.prompt = build_prompt(sequence.request, self._tokenizer, self._runner.context_length)
                except Exception as fault:  # one request's fault must not reach the others
                    with self._changed:
                        self._waiting.remove(sequence)
                    self._fail(sequence, fault)

    def _admit(self) -> None:
        """Give slots to waiting sequences, first come first served; end those that need none any more."""
        still_waiting: deque[Sequence] = deque()
        for sequence in self._waiting:
            if sequence.end_reason is not None:
                sequence.finish(sequence.end_reason)
                continue
            slot = None
            if sequence.prompt is not None and not still_waiting:
                try:
                    slot = self._slots.acquire(sequence.prompt.tokens)
                except Exception as fault:  # out of memory ends this request, not the engine
                    self._fail(sequence, fault)
                    continue
            if slot is None:
                still_waiting.append(sequence)
            else:
                sequence.begin(slot)
                self._running.append(sequence)
        self._waiting = still_waiting

    def _step(self, sequence: Sequence) -> FinishReason | None:
        """One prefill chunk or one decoded token of one sequence."""
        if sequence.request.deadline is not None and time.monotonic() >= sequence.request.deadline:
            return "deadline"
        slot, prompt = sequence.slot, sequence.prompt
        assert slot is not None and prompt is not None
        tokens = sequence.prefill_left()
        if slot.cache.length + len(tokens) > self._runner.context_length:
            return "length"
        if len(tokens) > PREFILL_CHUNK:
            self._runner.prefill(tokens[:PREFILL_CHUNK], slot.cache)
            return None
        logits = self._runner.forward(tokens, slot.cache)
        if len(slot.tokens) == len(prompt.tokens):
            sequence.prefill_done()
        return sequence.push(*sequence.sampler.sample(logits, sequence.allowed(self._vocabulary)))

    def _free(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        with self._changed:
            self._running.remove(sequence)
            self._slots.release(sequence.slot)

    def _fail(self, sequence: Sequence, fault: Exception) -> None:
        # the message of an exception may hold code of the user: only its kind is told
        log.error("completion %s failed: %s", sequence.request.id, type(fault).__name__)
        log.debug("the fault was", exc_info=fault)
        sequence.finish("error", f"{type(fault).__name__} in the engine")
