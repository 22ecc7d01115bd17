"""Prefix reuse, modelled: what a slot claims to hold is what was computed into it."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.slots import Slots


@dataclass
class RecordingCache:
    """Holds the tokens that a real cache would hold keys and values of."""

    content: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.content)

    @length.setter
    def length(self, value: int) -> None:
        assert value <= len(self.content)
        del self.content[value:]


PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@given(st.lists(st.tuples(PROMPTS, st.integers(0, 8), st.integers(0, 3)), max_size=40))
def test_a_reused_prefix_is_always_the_prompts_own(operations):
    slots = Slots(3, RecordingCache)
    held = []
    for prompt, computed, releases in operations:
        slot = slots.acquire(prompt)
        if slot is None:
            assert len(held) == 3
        else:
            assert slot.cache.content == prompt[: slot.cache.length]
            assert slot.cache.length < len(prompt)
            slot.cache.content = prompt[: max(computed, slot.cache.length)]
            held.append(slot)
        for _ in range(min(releases, len(held))):
            slots.release(held.pop(0))
    assert len({id(slot) for slot in held}) == len(held)


def test_the_same_document_comes_back_to_its_slot():
    slots = Slots(2, RecordingCache)
    documents = [list(range(start, start + 20)) for start in (0, 100)]
    for tokens in documents:
        slot = slots.acquire(tokens)
        slot.cache.content = list(tokens)
        slots.release(slot)
    for tokens in documents * 2:
        slot = slots.acquire([*tokens, 7])
        assert slot.cache.length == 20
        slots.release(slot)


def test_a_new_document_takes_the_longest_idle_slot():
    slots = Slots(2, RecordingCache)
    for start in (0, 100, 200):
        slot = slots.acquire(list(range(start, start + 10)))
        slot.cache.content = list(range(start, start + 10))
        slots.release(slot)
    assert slots.acquire(list(range(100, 112))).cache.length == 10
