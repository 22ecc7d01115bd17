"""For scenarios that say something only where the machine was quick enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest


def tries(most: int = 5) -> Iterator[int]:
    """The number of the try, until the test breaks out because nothing came too late for what it wants to see.

    Fails where something did each time: that says nothing about the code under test, but nothing was seen of it.
    """
    yield from range(most)
    pytest.fail(f"in each of {most} tries something came too late for what this test wants to see")


def starved_s() -> float:
    """The seconds so far in which threads of this process could have run and no core was free, added up."""
    waited_ns = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            waited_ns += int((thread / "schedstat").read_text().split()[1])
    return waited_ns / 1e9
