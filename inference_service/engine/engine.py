"""The engine: one thread that tokenizes, schedules, computes and samples, step after step."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import torch

from inference_service.engine.accounting import Accounting, Stage
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.completion import Completion
from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import Chunk, CompletionRequest
from inference_service.engine.runner import BLOCK_SIZE, Runner
from inference_service.engine.sampler import Row, Sampled
from inference_service.engine.scheduler import Scheduler, Step, Work
from inference_service.engine.sequence import Sequence as ScheduledSequence
from inference_service.engine.speculation import Speculation
from inference_service.model.healing import Vocabulary
from inference_service.model.tokenizer import Tokenizer

MAX_STEP_TOKENS = 256  # a longer step would keep those who decode waiting
MAX_SEQUENCES = 64
GPU_STEP_TOKENS = 2048
GPU_SEQUENCES = 128  # as many as the largest recorded step has rows
SPECULATING_SEQUENCES = 8  # with more of them a step has better things to compute than guesses
LOST_S = 1e9  # for so long, it is said, a device that is lost makes no step
LEAST_STEP_TOKENS = 16  # where memory is short, steps shrink down to this before a request fails

log = logging.getLogger(__name__)


class Engine:
    """Runs completions on its own thread. Methods are safe to call from any thread.

    Newest wins: a request supersedes every unfinished one of the same session. An abort takes effect before the
    next step.
    """

    def __init__(self, runner: Runner, tokenizer: Tokenizer, version: str = "") -> None:
        self._runner, self._tokenizer, self._version = runner, tokenizer, version
        self._vocabulary = Vocabulary(tokenizer)
        self._blocks = BlockManager(runner.num_blocks, BLOCK_SIZE)
        on_gpu = runner.device.type == "cuda"
        self._scheduler = Scheduler(
            self._blocks,
            GPU_STEP_TOKENS if on_gpu else MAX_STEP_TOKENS,
            GPU_SEQUENCES if on_gpu else MAX_SEQUENCES,
        )
        self._speculation = Speculation()
        self._accounting = Accounting(runner.bandwidth)
        self._arrived: list[Completion] = []
        self._by_sequence: dict[ScheduledSequence, Completion] = {}
        self._unfinished: dict[str, Completion] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._lost = False  # the device computes nothing any more, and never will for this process
        self._turned = time.monotonic()  # the last time that the thread was seen between two steps
        self._thread = threading.Thread(target=self._run, name="midfill-engine", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self._unfinished) - self.num_running

    def gauges(self) -> dict[str, float]:
        """Instant values and totals by metric name."""
        return {
            "num_requests_running": self.num_running,
            "num_requests_waiting": self.num_waiting,
            "kv_cache_usage_ratio": self._blocks.usage,
            "preemptions_total": self._scheduler.preemptions_total,
            **self._accounting.values(),
            "engine_stalled_seconds": self._stalled_s(),
        }

    def _stalled_s(self) -> float:
        if self._lost:
            return LOST_S
        return time.monotonic() - self._turned if self._unfinished else 0.0

    def submit(self, request: CompletionRequest, emit: Callable[[Chunk], None]) -> None:
        """Queue a request; `emit` gets its chunks on the engine's thread, the last one with a finish reason."""
        completion = Completion(request, self._tokenizer, emit)
        with self._changed:
            if self._stopped:
                completion.end_reason = "shutdown"
            if request.session is not None:
                for other in self._unfinished.values():
                    if other.request.session == request.session:
                        other.end_reason = other.end_reason or "superseded"
                        completion.instead_of = other
            if not self._unfinished:
                self._turned = time.monotonic()
            self._unfinished[request.id] = completion
            before = completion.instead_of
            place = self._arrived.index(before) if before in self._arrived else len(self._arrived)
            self._arrived.insert(place, completion)
            self._changed.notify()

    def cancel(self, completion_id: str) -> bool:
        """End an unfinished request with reason "cancelled"; False when there is none of that id."""
        with self._changed:
            completion = self._unfinished.get(completion_id)
            if completion is None or completion.end_reason is not None:
                return False
            completion.end_reason = "cancelled"
            return True

    def stop(self) -> None:
        """End everything with reason "shutdown" and the thread with it."""
        with self._changed:
            self._stopped = True
            for completion in self._unfinished.values():
                completion.end_reason = completion.end_reason or "shutdown"
            self._changed.notify()
        self._thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._unfinished or self._stopped):
                    self._changed.wait()
                if self._stopped and not self._unfinished:
                    return
            self._turned = time.monotonic()
            started = time.perf_counter()
            self._admit_arrived()
            self._end_the_unwanted()
            step = self._scheduler.schedule()
            if step.work:
                tokens, read = step.num_tokens, self._runner.bytes_read(step.work)
                device = self._compute(step)
                seconds = time.perf_counter() - started
                self._accounting.step(seconds - device, device, read)
                self._speculation.costs.observe(tokens, seconds)

    def _admit_arrived(self) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        for completion in arrived:
            self._admit(completion)

    def _admit(self, completion: Completion) -> None:
        """Tokenize and schedule; not in `submit`, which is called on an event loop and must not wait for that."""
        request = completion.request
        if completion.end_reason is not None:
            self._finish(completion)
            return
        try:
            prompt = build_prompt(request, self._tokenizer, self._runner.context_length)
            sequence = completion.tokenized(prompt, (request.tenant, self._version))
            self._scheduler.add(sequence, completion.given_up())
        except Exception as fault:  # one request's fault must not reach the others
            self._fail(completion, fault)
        else:
            self._by_sequence[sequence] = completion

    def _end_the_unwanted(self) -> None:
        now = time.monotonic()
        for completion in list(self._by_sequence.values()):
            deadline = completion.request.deadline
            if completion.end_reason is None and deadline is not None and now >= deadline:
                completion.end_reason = "deadline"
            if completion.end_reason is not None:
                self._finish(completion)

    def _compute(self, step: Step) -> float:
        """Compute a step and take its results; returns the seconds that the device took."""
        for work in step.work:
            self._by_sequence[work.sequence].started()
        began = time.perf_counter()
        try:
            self._runner.copy(step.copies)
            pending = self._runner.launch(step.work, self._rows(step.work))
            launched = time.perf_counter()
            if not pending.ready:  # a GPU computes meanwhile
                self._admit_arrived()
            waiting = time.perf_counter()
            sampled = pending.result()
        except torch.OutOfMemoryError:
            self._shed(step)
            return time.perf_counter() - began
        except Exception:  # find whose fault it is: the others go on
            log.debug("a step failed; computing its requests one by one", exc_info=True)
            for work in step.work:
                self._compute_alone(work)
            return time.perf_counter() - began
        device = time.perf_counter() - waiting + launched - began
        for work in step.work:
            self._take(work, sampled[: work.logits])
            sampled = sampled[work.logits :]
        return device

    def _compute_alone(self, work: Work) -> None:
        try:
            sampled = self._runner.launch([work], self._rows([work])).result()
        except Exception as fault:
            self._lost = self._lost or not self._runner.works()
            self._fail(self._by_sequence[work.sequence], fault)
        else:
            self._take(work, sampled)

    def _shed(self, step: Step) -> None:
        """The device has no memory for such a step: smaller ones from now on, or else one request less."""
        self._runner.release_memory()
        smaller = self._scheduler.max_tokens // 2
        if smaller >= LEAST_STEP_TOKENS:
            log.warning("out of memory in a step of %d tokens: at most %d from now on", step.num_tokens, smaller)
            self._scheduler.max_tokens = smaller
            return
        newest = max(step.work, key=lambda work: work.sequence.arrival)
        self._fail(self._by_sequence[newest.sequence], MemoryError())

    def _rows(self, work: Sequence[Work]) -> list[Row]:
        rows = []
        for item in work:
            completion = self._by_sequence[item.sequence]
            typed = completion.typed
            for i in range(item.logits):
                allowed = self._vocabulary.continuing(typed) if typed else None
                rows.append(Row(completion.sampling, completion.generated + i, allowed))
        return rows

    def _take(self, work: Work, sampled: Sequence[Sampled]) -> None:
        """Give the sampled tokens to their completion, as far as the guesses before them were right."""
        completion = self._by_sequence[work.sequence]
        guesses = work.tokens[len(work.tokens) - work.drafted :]
        right = 0
        while right < work.drafted and sampled[right].token == guesses[right]:
            right += 1
        taken = sampled[: right + 1]
        if any(one.logprob != one.logprob for one in taken):
            self._fail(completion, FloatingPointError("the model returned NaN"))
            return
        if work.drafted:
            completion.verified(guesses, right)
            self._accounting.verified(right)
        self._scheduler.complete(work, [one.token for one in taken])
        for one in taken:
            reason = completion.push(*one)
            if reason is not None:
                completion.end_reason = reason
                self._finish(completion)
                return
        running = len(self._scheduler.running)
        if len(work.sequence.tokens) >= self._runner.context_length:
            completion.end_reason = "length"
            self._finish(completion)
        elif taken and running <= SPECULATING_SEQUENCES:
            completion.guess(self._speculation, self._runner.context_length, running - 1)

    def _finish(self, completion: Completion, error: str | None = None) -> None:
        assert completion.end_reason is not None
        sequence = completion.sequence
        if sequence in self._by_sequence:
            del self._by_sequence[sequence]
            self._scheduler.remove(sequence)
            self._speculation.remember(sequence.root, sequence.tokens, completion.generated)
        spent = sequence.spent if sequence else 0
        if completion.end_reason in ("superseded", "cancelled"):
            stage: Stage = "decode" if completion.generated else "prefill" if spent else "waiting"
            self._accounting.aborted(stage, spent)
        elif completion.end_reason == "error":
            self._accounting.wasted(spent)
        with self._changed:
            self._unfinished.pop(completion.request.id, None)
        completion.finish(completion.end_reason, error)

    def _fail(self, completion: Completion, fault: Exception) -> None:
        # the message of an exception may hold code of the user: only its kind is told
        log.error("completion %s failed: %s", completion.request.id, type(fault).__name__)
        log.debug("the fault was", exc_info=fault)
        completion.end_reason = "error"
        self._finish(completion, f"{type(fault).__name__} in the engine")
