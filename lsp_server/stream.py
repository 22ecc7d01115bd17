"""A request to the service that is still running, and whether what is typed still agrees with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from lsp_server.answer_stream import Completion, OnText
from lsp_server.postprocess.repetition import is_looping
from lsp_server.spot import Spot

GRACE_S = 0.3
"""How long a stream that nobody waits for any more goes on. Editors cancel a request at the next keystroke and ask
again 50 (VS Code) to 200 ms (Neovim) later: often for the rest of the same text."""
_LOOK_EVERY = 12  # characters


class Stream:
    """Runs `fetch(on_text)` in a task of its own; several requests of the editor may wait for it in turn.

    `is_settled` says of text whose last line is complete whether nothing that comes after it could be shown.
    """

    def __init__(
        self,
        spot: Spot,
        fetch: Callable[[OnText], Coroutine[object, object, Completion]],
        grace_s: float,
        is_settled: Callable[[str], bool] = lambda text: False,
    ) -> None:
        self.spot = spot
        self.text = ""
        self._grace_s = grace_s
        self._is_settled = is_settled
        self._watchers = 0
        self._looked_at = 0
        self._news = asyncio.Event()
        self._farewell: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Completion] = asyncio.ensure_future(fetch(self._receive))
        self._task.add_done_callback(self._ended)

    @property
    def done(self) -> bool:
        """Whether the service has answered, failed, or the stream was aborted."""
        return self._task.done()

    def agrees(self, typed: str) -> bool:
        """Whether `typed` may turn out to be the beginning of the completion."""
        expected = self.spot.lead + self.text
        return expected.startswith(typed) or (not self.done and typed.startswith(expected))

    def possible(self, source: str) -> bool:
        """Whether a document that reads `source` (line ends as `\\n`) can still lead to this completion."""
        typed = self.spot.typed_in(source)
        return (typed is not None and self.agrees(typed)) or self.spot.awaits_acceptance_in(source)

    async def wait(self, typed: str, patience_s: float | None) -> Completion | None:
        """The completion; None as soon as it contradicts `typed`, was aborted, or wrote nothing within `patience_s`.

        Raises what `fetch` raises. Cancelling a waiter leaves the stream running for the grace period.
        """
        self._watch()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    while not self.text and not self.done:
                        await self._next()
            while self.text and not self.done and self.agrees(typed):
                await self._next()
            if not self.done or self._task.cancelled():
                return None
            return self._task.result()
        finally:
            self._unwatch()

    def abort(self) -> None:
        """End it now; the connection is closed and the service stops."""
        self._task.cancel()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _receive(self, piece: str) -> bool:
        """Whether it is enough: nothing more comes that could be shown."""
        self.text += piece
        self._news.set()
        if self._is_settled(self.text):
            return True
        if len(self.text) < self._looked_at + _LOOK_EVERY:
            return False
        self._looked_at = len(self.text)
        return is_looping(self.text)

    def _ended(self, task: asyncio.Task[Completion]) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        if not task.cancelled():
            task.exception()  # seen: a stream that nobody waits for may fail
        self._news.set()

    def _watch(self) -> None:
        self._watchers += 1
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None

    def _unwatch(self) -> None:
        self._watchers -= 1
        if not self._watchers and not self.done:
            self._farewell = asyncio.get_running_loop().call_later(self._grace_s, self.abort)
