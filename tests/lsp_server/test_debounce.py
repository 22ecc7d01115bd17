"""Waiting for the next keystroke."""

from __future__ import annotations

import pytest

from lsp_server.debounce import Debounce
from tests.lsp_server.test_cache import Clock


@pytest.mark.parametrize(("spent", "slept"), [(0.0, [0.075]), (0.05, [0.025]), (0.2, [])])
async def test_time_since_the_arrival_counts(spent: float, slept: list[float]) -> None:
    clock, naps = Clock(), []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    clock.now = 100 + spent
    await Debounce(clock, sleep).wait(arrived=100, delay_s=0.075)
    assert naps == pytest.approx(slept)
