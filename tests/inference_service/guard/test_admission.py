"""What is taken and what is told to come back later, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.guard.admission import Admission, Saturated, estimated_tokens


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def drain(admission, clock, tokens_per_s, seconds=60):
    """Let prompts be computed at a rate, so that it is known."""
    for _ in range(seconds):
        held = admission.reserve(1, tokens_per_s, 1)
        clock.now += 1
        admission.started(held)
        admission.release(held)


def test_retry_after_follows_the_measured_rate(clock):
    admission = Admission(100, 10_000, 1000, clock)
    for rate, seconds in ((1000, 5), (100, 50)):
        drain(admission, clock, rate)
        held = admission.reserve(1, 9000, 1000)
        with pytest.raises(Saturated) as full:
            admission.reserve(1, 4000, 1000)
        assert full.value.retry_after_s == pytest.approx(seconds, rel=0.25)
        admission.started(held)
        admission.release(held)


def test_who_would_miss_the_deadline_is_told_at_once(clock):
    admission = Admission(100, 100_000, 30, clock)
    drain(admission, clock, 1000)
    admission.reserve(1, 4000, 10)
    assert 3 < admission.predicted_wait_s < 4.5
    admission.reserve(1, 1, 1, within_s=5)
    with pytest.raises(Saturated) as late:
        admission.reserve(1, 1, 1, within_s=0.5)
    assert 3 <= late.value.retry_after_s <= 4


def test_a_stalled_engine_lets_the_wait_grow(clock):
    admission = Admission(100, 100_000, 5, clock)
    drain(admission, clock, 1000)
    admission.reserve(1, 2000, 1)
    before = admission.predicted_wait_s
    clock.now += 60
    assert admission.predicted_wait_s > 5 > before
    with pytest.raises(Saturated):
        admission.reserve(1, 10, 1)


def test_an_idle_service_takes_what_is_larger_than_its_budget(clock):
    admission = Admission(2, 100, 30, clock)
    admission.reserve(1, 5000, 500, within_s=0.001)
    with pytest.raises(Saturated):
        admission.reserve(1, 1, 1)


def test_slots_are_all_or_none(clock):
    admission = Admission(4, 10_000, 30, clock)
    admission.reserve(3, 10, 10)
    with pytest.raises(Saturated):
        admission.reserve(2, 10, 10)
    assert admission.slots == 3
    admission.reserve(1, 10, 10)


@given(
    st.lists(st.tuples(st.sampled_from("rsx"), st.integers(1, 9), st.integers(0, 500), st.floats(0, 5)), max_size=60)
)
def test_nothing_is_lost_and_no_bound_is_passed(steps):
    clock = Clock()
    admission = Admission(8, 1000, 30, clock)
    held = []
    for kind, slots, tokens, seconds in steps:
        clock.now += seconds
        if kind == "r":
            try:
                held.append(admission.reserve(slots, tokens, tokens))
            except Saturated as full:
                assert 1 <= full.retry_after_s <= 60
        elif held and kind == "s":
            admission.started(held[tokens % len(held)])
        elif held:
            admission.release(held.pop(tokens % len(held)))
        assert admission.slots == sum(one.slots for one in held) <= 8
        assert admission.tokens == sum(one.prompt_tokens + one.output_tokens for one in held)
        assert admission.tokens <= 1000 or len(held) == 1
        assert admission.predicted_wait_s >= 0
    for one in held:
        admission.release(one)
    assert (admission.slots, admission.tokens, admission.predicted_wait_s) == (0, 0, 0)


def test_prompts_count_as_far_as_the_context_reaches():
    assert estimated_tokens(300, 4096) == 101
    assert estimated_tokens(10**6, 2048) == 2048
