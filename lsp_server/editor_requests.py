"""What the server asks the editor."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, request: Future[T]) -> T:
    """The editor's answer. Raises what the editor answers with, and TimeoutError.

    The request is never cancelled, as `asyncio.wait_for` would: pygls cannot take the answer to one that was, and the
    answer of an editor that is busy may still come.
    """
    answered = asyncio.Event()
    request.add_done_callback(lambda _: answered.set())  # on the loop, where pygls reads
    async with asyncio.timeout(seconds):
        await answered.wait()
    return request.result()
