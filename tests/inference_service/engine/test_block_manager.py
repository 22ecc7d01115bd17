"""Paged KV accounting: what is said to be cached is there, nothing leaks, nothing is given out twice."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from inference_service.engine.block_manager import BlockManager

SIZE = 4
TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=26)


class Pool(RuleBasedStateMachine):
    """Sequences over a small pool; `memory` is what the device would hold."""

    sequences = Bundle("sequences")

    def __init__(self):
        super().__init__()
        self.manager = BlockManager(num_blocks=12, block_size=SIZE)
        self.memory = [[None] * SIZE for _ in range(12)]
        self.running = []

    @rule(target=sequences, tokens=TEXTS, tenant=st.sampled_from("ab"))
    def begin(self, tokens, tenant):
        free = self.manager.num_free
        begun = self.manager.begin(tokens, tenant)
        if begun is None:
            assert self.manager.num_free == free
            return None
        lease, cached, copy = begun
        if copy is not None:
            self.memory[copy.target][: copy.tokens] = self.memory[copy.source][: copy.tokens]
        sequence = {"tenant": tenant, "lease": lease, "tokens": list(tokens), "computed": cached}
        self.running.append(sequence)
        assert cached < len(tokens)
        self.check_contents(sequence)
        return sequence

    @rule(sequence=sequences, count=st.integers(1, 9), more=st.lists(st.integers(0, 2), max_size=5))
    def compute(self, sequence, count, more):
        if sequence not in self.running:
            return
        lease = sequence["lease"]
        stop = min(len(sequence["tokens"]), sequence["computed"] + count)
        for i in range(sequence["computed"], stop):
            self.memory[lease.blocks[i // SIZE]][i % SIZE] = (sequence["tenant"], *sequence["tokens"][: i + 1])
        sequence["computed"] = stop
        self.manager.commit(lease, sequence["tokens"][:stop])
        if stop == len(sequence["tokens"]) and self.manager.extend(lease, stop + len(more)):
            sequence["tokens"] += more

    @rule(sequence=consumes(sequences))
    def release(self, sequence):
        if sequence in self.running:
            self.running.remove(sequence)
            self.manager.release(sequence["lease"], sequence["tokens"][: sequence["computed"]])

    @rule()
    def forget(self):
        self.manager.forget()

    def check_contents(self, sequence):
        # keys and values depend on all tokens before them and on whose they are: memory holds just that
        for i in range(sequence["computed"]):
            held = self.memory[sequence["lease"].blocks[i // SIZE]][i % SIZE]
            assert held == (sequence["tenant"], *sequence["tokens"][: i + 1])

    @invariant()
    def running_sequences_keep_their_contents(self):
        for sequence in self.running:
            self.check_contents(sequence)

    @invariant()
    def nothing_leaks(self):
        held = {block for sequence in self.running for block in sequence["lease"].blocks}
        assert self.manager.num_free == 12 - len(held)

    @invariant()
    def unfinished_blocks_belong_to_one(self):
        own = [b for s in self.running for b in s["lease"].blocks[s["computed"] // SIZE :]]
        assert len(own) == len(set(own))


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


def compute_all(manager, tokens, root="a"):
    lease, cached, _ = manager.begin(tokens, root)
    manager.release(lease, tokens)
    return cached


def test_a_prefix_is_reused_to_the_token():
    manager = BlockManager(16, 4)
    compute_all(manager, [1, 2, 3, 4, 5, 6, 7])
    assert compute_all(manager, [1, 2, 3, 4, 5, 6, 9, 9]) == 6


def test_the_last_token_is_always_computed():
    manager = BlockManager(16, 4)
    compute_all(manager, [1, 2, 3, 4])
    assert compute_all(manager, [1, 2, 3, 4]) == 3


def test_typing_on_does_not_fill_the_cache_with_beginnings():
    manager = BlockManager(8, 4)
    text = [7] * 3
    for token in range(20):
        text = [*text, token]
        assert compute_all(manager, text) == len(text) - 1 or token == 0
    assert compute_all(manager, text) == len(text) - 1


def test_tenants_do_not_share():
    manager = BlockManager(16, 4)
    compute_all(manager, [1, 2, 3, 4, 5], "a")
    assert compute_all(manager, [1, 2, 3, 4, 5], "b") == 0


def test_the_end_of_a_text_is_evicted_before_its_beginning():
    manager = BlockManager(4, 4)
    compute_all(manager, list(range(12)))
    compute_all(manager, [99] * 7)
    assert compute_all(manager, list(range(12))) == 8


def test_running_sequences_share_blocks():
    manager = BlockManager(5, 4)
    tokens = list(range(14))
    first, _, _ = manager.begin(tokens, "a")
    manager.commit(first, tokens)
    second, cached, copy = manager.begin(tokens, "a")
    assert cached == 12 and second.blocks[:3] == first.blocks[:3] and copy is None
    assert manager.begin([50], "a") is None
