"""Scheduling: every sequence is computed from sound blocks, in fair order, and nothing leaks whatever happens."""

import random

import pytest

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence

SIZE = 4


class Device:
    """Executes steps on a model of the KV cache: an entry is right when it was made from all tokens before it."""

    def __init__(self, num_blocks):
        self.memory = [[None] * SIZE for _ in range(num_blocks)]

    def run(self, step, sample):
        for source, target, tokens in step.copies:
            self.memory[target][:tokens] = self.memory[source][:tokens]
        results = []
        for work in step.work:
            sequence = work.sequence
            known = sequence.tokens[: work.start]
            states = [hash(sequence.root)]
            for token in [*known, *work.tokens]:
                states.append(hash((states[-1], token)))
            for i in range(work.start):
                assert self.memory[sequence.lease.blocks[i // SIZE]][i % SIZE] == states[i + 1]
            for i in range(work.start, work.start + len(work.tokens)):
                self.memory[sequence.lease.blocks[i // SIZE]][i % SIZE] = states[i + 1]
            sampled = []
            for n in range(work.logits):
                sampled.append(sample(states[len(states) - work.logits + n]))
                guess = work.tokens[len(work.tokens) - work.drafted + n] if n < work.drafted else None
                if guess != sampled[-1]:
                    break
            results.append(sampled)
        return results


def advance(scheduler, device, sample=lambda state: state % 3):
    step = scheduler.schedule()
    for work, tokens in zip(step.work, device.run(step, sample), strict=True):
        scheduler.complete(work, tokens)
    return step


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_thousand_random_operations_leave_every_sequence_sound_and_no_block_lost(seed):
    choose = random.Random(seed)
    blocks = BlockManager(num_blocks=24, block_size=SIZE)
    scheduler, device = Scheduler(blocks, max_tokens=12, max_sequences=5), Device(24)
    texts = [[choose.randrange(3) for _ in range(40)] for _ in range(3)]
    live: dict[Sequence, int] = {}
    finished = 0
    for _ in range(25_000):
        action = choose.random()
        if action < 0.3 and len(live) < 12:
            text = choose.choice(texts)[: choose.randrange(1, 40)]
            sequence = Sequence(
                [*text, choose.randrange(3)], choose.randrange(2), choose.choice("uvw"), choose.randrange(3)
            )
            live[sequence] = len(sequence.tokens) + choose.randrange(1, 20)
            scheduler.add(sequence)
        elif action < 0.36 and live:
            sequence = choose.choice(list(live))
            del live[sequence]
            scheduler.remove(sequence)
        elif live:
            step = advance(scheduler, device)
            assert step.work, "something waits and nothing runs"
            assert step.num_tokens <= 12
            for work in step.work:
                sequence = work.sequence
                if len(sequence.tokens) >= live[sequence]:
                    del live[sequence]
                    scheduler.remove(sequence)
                    finished += 1
                else:
                    state = hash(sequence.root)
                    for token in sequence.tokens:
                        state = hash((state, token))
                    sequence.draft = [state % 3, 1][: choose.randrange(3)]
        held = {block for s in scheduler.running for block in s.lease.blocks}
        assert blocks.num_free == 24 - len(held)
        assert scheduler.num_waiting + len(scheduler.running) == len(live)
    assert finished > 500
    for sequence in live:
        scheduler.remove(sequence)
    assert blocks.num_free == 24


def build(num_blocks=64, max_tokens=64, max_sequences=8):
    return Scheduler(BlockManager(num_blocks, SIZE), max_tokens, max_sequences), Device(num_blocks)


def generate(scheduler, device, sequence, count):
    scheduler.add(sequence)
    prompt = len(sequence.tokens)
    while len(sequence.tokens) < prompt + count:
        advance(scheduler, device)
    scheduler.remove(sequence)
    return sequence.tokens[prompt : prompt + count]


def test_text_does_not_depend_on_chunks_neighbours_or_cache():
    prompt = [i % 5 for i in range(30)]
    alone = generate(*build(), Sequence(list(prompt)), 12)
    scheduler, device = build(num_blocks=30, max_tokens=5, max_sequences=3)
    for other in range(6):
        scheduler.add(Sequence([*prompt[:20], other], user=other))
    assert generate(scheduler, device, Sequence(list(prompt)), 12) == alone
    again = Sequence(list(prompt))
    assert generate(scheduler, device, again, 12) == alone
    assert again.cached > 0


def test_generated_text_that_is_typed_through_is_in_the_cache():
    scheduler, device = build()
    generated = generate(scheduler, device, Sequence([1, 2, 0, 1]), 9)
    typed = Sequence([1, 2, 0, 1, *generated[:5]])
    generate(scheduler, device, typed, 1)
    assert typed.cached == 8


def test_interactive_work_overtakes_batch_work():
    scheduler, _ = build(max_sequences=1)
    batch, line = Sequence([1, 2], priority=2), Sequence([2, 1], priority=0)
    scheduler.add(batch)
    scheduler.add(line)
    assert scheduler.schedule().work[0].sequence is line


def test_interactive_work_takes_the_blocks_of_batch_work():
    scheduler, device = build(num_blocks=4)
    batch = Sequence(list(range(12)), priority=2)
    scheduler.add(batch)
    advance(scheduler, device)
    line = Sequence([7] * 12, priority=0)
    scheduler.add(line)
    advance(scheduler, device)
    assert line in scheduler.running and batch not in scheduler.running
    assert scheduler.preemptions_total == 1


def test_a_busy_user_does_not_starve_a_quiet_one():
    scheduler, device = build(max_tokens=8, max_sequences=1)
    for number in range(20):
        scheduler.add(Sequence([number, *range(7)], user="busy"))
    scheduler.add(Sequence([1, 2, 3], user="quiet"))
    served = []
    for _ in range(6):
        step = advance(scheduler, device)
        served += [work.sequence.user for work in step.work]
        for work in step.work:
            if work.sequence.missing == 1:
                scheduler.remove(work.sequence)
    assert "quiet" in served[:3]


def test_a_user_who_was_away_collects_no_credit():
    scheduler, device = build(max_tokens=8, max_sequences=1)
    for number in range(10):
        scheduler.add(Sequence([number] * 8, user="a"))
    for _ in range(4):
        for work in advance(scheduler, device).work:
            scheduler.remove(work.sequence)
    for number in range(10):
        scheduler.add(Sequence([number, *[9] * 7], user="b"))
    served = []
    for _ in range(6):
        for work in advance(scheduler, device).work:
            served.append(work.sequence.user)
            scheduler.remove(work.sequence)
    assert abs(served.count("a") - served.count("b")) <= 1


def test_the_same_prompt_is_computed_once():
    scheduler, device = build(max_tokens=64)
    first, second = Sequence([3] * 20), Sequence([3] * 20)
    scheduler.add(first)
    scheduler.add(second)
    assert [work.sequence for work in advance(scheduler, device).work] == [first]
    advance(scheduler, device)
    assert second.cached == 19


def test_a_long_prefill_does_not_stop_those_who_decode():
    scheduler, device = build(max_tokens=6)
    writing = Sequence([1, 2])
    scheduler.add(writing)
    advance(scheduler, device)
    scheduler.add(Sequence(list(range(40))))
    for _ in range(5):
        before = len(writing.tokens)
        advance(scheduler, device)
        assert len(writing.tokens) == before + 1


def test_right_guesses_are_taken_in_one_step():
    scheduler, device = build()
    expected = generate(scheduler, device, Sequence([2, 2, 1]), 6)
    scheduler, device = build()
    sequence = Sequence([2, 2, 1])
    scheduler.add(sequence)
    advance(scheduler, device)
    sequence.draft = [*expected[1:4], (expected[4] + 1) % 3]
    advance(scheduler, device)
    assert sequence.tokens[3:] == expected[:5]
    advance(scheduler, device)
    assert sequence.tokens[3:] == expected


def test_a_prompt_that_can_never_fit_is_refused():
    scheduler, _ = build(num_blocks=2)
    with pytest.raises(ValueError, match="do not fit"):
        scheduler.add(Sequence([0] * 9))


def test_who_asks_anew_keeps_the_place_in_the_queue():
    scheduler, device = Scheduler(BlockManager(8, SIZE), max_tokens=8, max_sequences=1), Device(8)
    running, first, second = (Sequence([n]) for n in (1, 2, 0))
    for sequence in (running, first, second):
        scheduler.add(sequence)
    advance(scheduler, device)
    anew = Sequence([2, 2])
    scheduler.add(anew, instead_of=first)
    scheduler.remove(first)
    scheduler.remove(running)
    advance(scheduler, device)
    assert scheduler.running == [anew]
