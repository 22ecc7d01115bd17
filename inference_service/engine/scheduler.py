"""What the next step computes: continuous batching with chunked prefill, priorities and fairness. No torch.

Within a priority, users are served by a virtual token counter (Sheng et al. 2024, "Fairness in Serving Large
Language Models", algorithm 2): the next place goes to the user who got the fewest tokens; a user who was away
does not collect credit.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from itertools import count

from inference_service.engine.block_manager import BlockManager, Copy
from inference_service.engine.sequence import Sequence

_REMEMBERED_USERS = 10_000


@dataclass(slots=True)
class Work:
    """Compute `tokens` of `sequence` at positions from `start` on; the logits of the last `logits` are needed.

    The last `drafted` tokens are guesses that are not part of the sequence yet.
    """

    sequence: Sequence
    start: int
    tokens: list[int]
    logits: int
    drafted: int = 0

    @property
    def previous(self) -> list[int]:
        """The token before each of `tokens`; 0 before the first of the sequence."""
        return [self.sequence.tokens[self.start - 1] if self.start else 0, *self.tokens[:-1]]


@dataclass(slots=True)
class Step:
    """One forward pass: first the copies in their order, then all the work as one batch."""

    copies: list[Copy] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(len(work.tokens) for work in self.work)


def wanted_rows(work: Items[Work]) -> list[int]:
    """Which tokens of the work, numbered through, need logits."""
    rows: list[int] = []
    stop = 0
    for item in work:
        stop += len(item.tokens)
        rows += range(stop - item.logits, stop)
    return rows


class Scheduler:
    """Deals steps of at most `max_tokens` tokens over at most `max_sequences` running sequences.

    The pool must hold at least one sequence of the longest length.
    """

    def __init__(self, blocks: BlockManager, max_tokens: int, max_sequences: int) -> None:
        self._blocks, self.max_tokens, self._max_sequences = blocks, max_tokens, max_sequences
        self._waiting: dict[int, OrderedDict[Hashable, deque[Sequence]]] = {}  # priority -> user -> in order
        self.running: list[Sequence] = []
        self._served: OrderedDict[Hashable, int] = OrderedDict()
        self._arrivals = count()
        self.preemptions_total = 0

    @property
    def num_waiting(self) -> int:
        return sum(1 for _ in self._all_waiting())

    def add(self, sequence: Sequence, instead_of: Sequence | None = None) -> None:
        """Queue a sequence, `instead_of` one of the same user that is given up in its favour: who asks anew at each
        keystroke would never have its turn from the end of a long queue. Raises ValueError when it could never fit
        the pool.
        """
        if len(sequence.tokens) > self._blocks.num_blocks * self._blocks.block_size:
            raise ValueError(f"{len(sequence.tokens)} tokens do not fit a cache of {self._blocks.num_blocks} blocks")
        sequence.arrival = next(self._arrivals) if instead_of is None else instead_of.arrival
        self._lift(sequence.user)
        queue = self._queue(sequence)
        queue.insert(sum(1 for other in queue if other.arrival <= sequence.arrival), sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence wherever it is; what it computed stays in the prefix cache."""
        if sequence.lease is not None:
            self._stop(sequence)
        else:
            queue = self._queue(sequence)
            queue.remove(sequence)
            self._tidy(sequence.priority, sequence.user)

    def schedule(self) -> Step:
        """The next step: a token of every sequence that decodes, then prefill chunks, then new sequences."""
        step = Step()
        budget = self.max_tokens
        for sequence in sorted(self.running, key=self._urgency):
            if sequence.lease is None or budget == 0:
                continue  # preempted by an earlier one of this loop; or no room
            if not self._make_room(sequence, step):
                continue
            budget -= self._deal(step, sequence, budget)
        prefilling = {(s.root, tuple(s.tokens)) for s in self.running if s.missing > 1}
        while budget > 0 and len(self.running) < self._max_sequences:
            candidate = self._next_waiting(prefilling)
            if candidate is None:
                break
            begun = self._blocks.begin(candidate.tokens, candidate.root)
            if begun is None:
                if not self._preempt_below(candidate, step):
                    break
                continue
            self._queue(candidate).remove(candidate)
            self._tidy(candidate.priority, candidate.user)
            candidate.lease, candidate.computed, copy = begun
            candidate.cached = candidate.computed
            if copy is not None:
                step.copies.append(copy)
            self.running.append(candidate)
            budget -= self._deal(step, candidate, budget)
            if candidate.missing > 1:
                prefilling.add((candidate.root, tuple(candidate.tokens)))
        return step

    def complete(self, work: Work, tokens: list[int]) -> None:
        """Take the step's result: the tokens sampled for `work` (none after an unfinished prefill).

        Of a draft, the tokens that were sampled as guessed have their keys and values in the cache already.
        """
        sequence = work.sequence
        assert sequence.lease is not None
        sequence.tokens += tokens
        sequence.spent += len(work.tokens)
        sequence.draft = []
        if tokens:
            sequence.computed = len(sequence.tokens) - 1
        else:
            sequence.computed = work.start + len(work.tokens) - work.drafted
        self._blocks.commit(sequence.lease, sequence.tokens[: sequence.computed])

    def _deal(self, step: Step, sequence: Sequence, budget: int) -> int:
        """Add as much of `sequence` as the budget allows; returns how many tokens that is."""
        start, missing = sequence.computed, sequence.missing
        tokens = sequence.tokens[start : start + budget]
        draft: list[int] = []
        if missing <= budget and sequence.draft:
            draft = sequence.draft[: budget - missing]
            assert sequence.lease is not None
            if not self._blocks.extend(sequence.lease, len(sequence.tokens) + len(draft)):
                draft = []
        logits = 1 + len(draft) if missing <= budget else 0
        step.work.append(Work(sequence, start, tokens + draft, logits, len(draft)))
        self._served[sequence.user] = self._served.get(sequence.user, 0) + len(tokens)
        return len(tokens) + len(draft)

    def _urgency(self, sequence: Sequence) -> tuple[int, bool, int, int]:
        served = self._served.get(sequence.user, 0)
        return sequence.priority, sequence.missing > 1, served, sequence.arrival

    def _make_room(self, sequence: Sequence, step: Step) -> bool:
        """Preempt others, or else `sequence` itself, until its next token has a block."""
        assert sequence.lease is not None
        while not self._blocks.extend(sequence.lease, len(sequence.tokens)):
            victim = max(self.running, key=lambda s: (s.priority, s.arrival))
            self._preempt(victim, step)
            if victim is sequence:
                return False
        return True

    def _preempt_below(self, candidate: Sequence, step: Step) -> bool:
        """Preempt one running sequence of lower priority than the candidate's, if there is one."""
        below = [s for s in self.running if s.priority > candidate.priority]
        if below:
            self._preempt(max(below, key=lambda s: (s.priority, s.arrival)), step)
        return bool(below)

    def _preempt(self, sequence: Sequence, step: Step) -> None:
        """Back to the head of its queue; its tokens, generated ones too, will be looked up or computed again."""
        self.preemptions_total += 1
        step.work = [work for work in step.work if work.sequence is not sequence]
        self._stop(sequence)
        self._queue(sequence).appendleft(sequence)

    def _stop(self, sequence: Sequence) -> None:
        assert sequence.lease is not None
        self.running.remove(sequence)
        self._blocks.release(sequence.lease, sequence.tokens[: sequence.computed])
        sequence.lease, sequence.computed = None, 0

    def _next_waiting(self, prefilling: set[tuple[Hashable, tuple[int, ...]]]) -> Sequence | None:
        """The first of the users' queues whose prompt is not being computed: that can be had in a moment."""
        heads = [queue[0] for users in self._waiting.values() for queue in users.values()]
        heads.sort(key=lambda s: (s.priority, self._served.get(s.user, 0), s.arrival))
        return next((s for s in heads if (s.root, tuple(s.tokens)) not in prefilling), None)

    def _queue(self, sequence: Sequence) -> deque[Sequence]:
        return self._waiting.setdefault(sequence.priority, OrderedDict()).setdefault(sequence.user, deque())

    def _tidy(self, priority: int, user: Hashable) -> None:
        users = self._waiting[priority]
        if not users[user]:
            del users[user]
        if not users:
            del self._waiting[priority]

    def _all_waiting(self) -> Iterator[Sequence]:
        for users in self._waiting.values():
            for queue in users.values():
                yield from queue

    def _lift(self, user: Hashable) -> None:
        """A user who comes back starts level with those who are being served."""
        active = {s.user for s in (*self.running, *self._all_waiting())}
        if user not in active and active:
            least = min(self._served.get(other, 0) for other in active)
            self._served[user] = max(self._served.get(user, 0), least)
        self._served.setdefault(user, 0)
        self._served.move_to_end(user)
        while len(self._served) > _REMEMBERED_USERS:
            self._served.popitem(last=False)
