"""Whatever the order of requests, aborts and failed steps, the scheduler stays sound and fair, and leaks nothing."""

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence

SIZE, BLOCKS = 4, 14


class Machine(RuleBasedStateMachine):
    """`memory` is what a device would hold: for each slot everything that its keys and values depend on."""

    sequences = Bundle("sequences")

    def __init__(self):
        super().__init__()
        self.blocks = BlockManager(BLOCKS, SIZE)
        self.scheduler = Scheduler(self.blocks, max_tokens=9, max_sequences=4)
        self.memory = [[None] * SIZE for _ in range(BLOCKS)]
        self.live = []

    @rule(
        target=sequences,
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=30),
        tenant=st.sampled_from("ab"),
        user=st.sampled_from("uv"),
        priority=st.integers(0, 2),
    )
    def add(self, tokens, tenant, user, priority):
        sequence = Sequence(list(tokens), tenant, user, priority)
        self.live.append(sequence)
        self.scheduler.add(sequence)
        return sequence

    @rule(sequence=consumes(sequences))
    def abort(self, sequence):
        """Wherever it is: waiting, in the middle of a prefill, decoding, preempted, with a guess or without."""
        if sequence in self.live:
            self.live.remove(sequence)
            self.scheduler.remove(sequence)

    @rule(data=st.data(), fails=st.booleans())
    def step(self, data, fails):
        step = self.scheduler.schedule()
        assert bool(step.work) == bool(self.live), "something waits and nothing runs"
        assert step.num_tokens <= self.scheduler.max_tokens
        assert len({id(work.sequence) for work in step.work}) == len(step.work)
        for source, target, tokens in step.copies:
            self.memory[target][:tokens] = self.memory[source][:tokens]
        written = set()
        for work in step.work:
            self.check(work.sequence, work.start)
            known = [*work.sequence.tokens[: work.start], *work.tokens]
            for i in range(work.start, len(known)):
                block, offset = work.sequence.lease.blocks[i // SIZE], i % SIZE
                assert (block, offset) not in written, "two sequences write the same place"
                written.add((block, offset))
                self.memory[block][offset] = (work.sequence.root, *known[: i + 1])
        if fails:  # the device ran out of memory: nothing is taken, and the work is asked for again
            return
        for work in step.work:
            sampled = []
            if work.logits:
                right = data.draw(st.integers(0, work.drafted))
                guesses = work.tokens[len(work.tokens) - work.drafted :]
                sampled = [*guesses[:right], data.draw(st.integers(0, 1))]
                if right < work.drafted and sampled[-1] == guesses[right]:
                    sampled[-1] = 1 - sampled[-1]
            self.scheduler.complete(work, sampled)
            if len(work.sequence.tokens) >= BLOCKS * SIZE - 4:
                self.live.remove(work.sequence)
                self.scheduler.remove(work.sequence)
            elif sampled:
                work.sequence.draft = data.draw(st.lists(st.integers(0, 1), max_size=3))

    @precondition(lambda self: self.scheduler.max_tokens > 2)
    @rule()
    def shrink(self):
        self.scheduler.max_tokens -= 1

    @invariant()
    def nothing_leaks(self):
        held = {block for sequence in self.scheduler.running for block in sequence.lease.blocks}
        assert self.blocks.num_free == BLOCKS - len(held)
        assert self.scheduler.num_waiting + len(self.scheduler.running) == len(self.live)
        assert all((sequence.lease is not None) == (sequence in self.scheduler.running) for sequence in self.live)

    @invariant()
    def what_counts_as_computed_is_there(self):
        for sequence in self.scheduler.running:
            if sequence.spent:  # the copies of one that has just begun are done in its first step
                self.check(sequence, sequence.computed)

    def check(self, sequence, count):
        for i in range(count):
            held = self.memory[sequence.lease.blocks[i // SIZE]][i % SIZE]
            assert held == (sequence.root, *sequence.tokens[: i + 1])

    def teardown(self):
        for sequence in self.live:
            self.scheduler.remove(sequence)
        assert self.blocks.num_free == BLOCKS


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=25)
@given(data=st.data(), max_tokens=st.integers(1, 24), max_sequences=st.integers(1, 6))
def test_users_who_always_have_work_get_the_same_within_a_bound(data, max_tokens, max_sequences):
    """Sheng et al. 2024, theorem 4.4: whoever asks for whatever, the gap does not grow with time."""
    longest, most = 20, 10
    lengths = st.integers(1, longest)
    blocks = BlockManager(200, SIZE)
    scheduler = Scheduler(blocks, max_tokens, max_sequences)
    targets, served, number = {}, {"heavy": 0, "light": 0}, 0
    for _ in range(100):
        for user, backlog in (("heavy", 20), ("light", max_sequences + 1)):
            while sum(sequence.user == user for sequence in targets) < backlog:
                number += 1
                length = data.draw(lengths) if user == "light" else longest
                sequence = Sequence([number] * length, user=user)
                targets[sequence] = length + (data.draw(st.integers(1, most)) if user == "light" else most)
                scheduler.add(sequence)
        for work in scheduler.schedule().work:
            served[work.sequence.user] += len(work.tokens)
            scheduler.complete(work, [0] * work.logits)
            if len(work.sequence.tokens) >= targets[work.sequence]:
                del targets[work.sequence]
                scheduler.remove(work.sequence)
        assert abs(served["light"] - served["heavy"]) <= 2 * max_sequences * (longest + most)
