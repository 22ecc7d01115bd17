"""Waiting for the next keystroke."""

from __future__ import annotations

import pytest

from lsp_server.debounce import Debounce, Rhythm, delay_s, pressed_at
from tests.lsp_server.test_cache import Clock


@pytest.mark.parametrize(("spent", "slept"), [(0.0, [0.075]), (0.05, [0.025]), (0.2, [])])
async def test_time_since_the_keystroke_counts(spent: float, slept: list[float]) -> None:
    clock, naps = Clock(), []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    clock.now = 100 + spent
    await Debounce(clock, sleep).wait(pressed=100, delay_s=0.075)
    assert naps == pytest.approx(slept)


@pytest.mark.parametrize(
    ("line", "gap_s", "misses", "expected"),
    [
        ("    ", None, 0, 0.01),
        ("foo(", None, 0, 0.0375),
        ("foo", None, 0, 0.075),
        ("foo", 0.1, 0, 0.12),
        ("foo(", 0.1, 0, 0.0375),
        ("foo", 0.4, 0, 0.075),
        ("foo", None, 2, 0.15),
        ("foo", None, 50, 0.3),
    ],
    ids=["start of line", "after a bracket", "word", "fast typist", "fast, bracket", "slow typist", "misses", "most"],
)
def test_delay_follows_place_typist_and_luck(line: str, gap_s: float | None, misses: int, expected: float) -> None:
    assert delay_s(line, 0.075, gap_s, misses, slow=False) == pytest.approx(expected)


def test_no_debounce_is_none_at_all() -> None:
    assert delay_s("foo", 0.0, 0.1, 5, slow=True) == 0.0


def test_rhythm_leaves_pauses_out() -> None:
    clock = Clock()
    rhythm = Rhythm(clock)
    rhythm.keystroke()
    assert rhythm.gap_s is None
    for gap in (0.1, 30.0, 0.1, 0.1):
        clock.now += gap
        rhythm.keystroke()
    assert rhythm.gap_s == pytest.approx(0.1)


def test_a_slow_service_is_asked_later() -> None:
    assert delay_s("foo(", 0.02, 0.13, 0, slow=True) == pytest.approx(0.04)


@pytest.mark.parametrize(("arrived", "pressed"), [(100.2, 100), (105, 105)], ids=["typed", "cursor moved"])
def test_what_the_editor_waited_counts_for_its_keystroke_only(arrived: float, pressed: float) -> None:
    assert pressed_at(100, arrived) == pressed
