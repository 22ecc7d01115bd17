"""A completion service that knows the text that is going to be typed."""

from __future__ import annotations

import threading
from typing import Any

from tests.lsp_server.scripted_service import Call, Reply, ScriptedService


class Prompter(ScriptedService):
    """Completes a prompt that `target` begins with by the next `lines` lines of `target`; any other by nothing.

    With `held`, answers wait until `answer` is set. `replies` and `required_key` come first, as in ScriptedService, and
    before them a `fault`, which lasts.
    """

    def __init__(self, port: int = 0) -> None:
        self.answer = threading.Event()
        self.target, self.lines = "", 1
        self.fault: Reply | None = None
        super().__init__(port)
        self.follow("")

    def follow(self, target: str, *, lines: int = 1, held: bool = False) -> None:
        """Knows `target` from now on, and has seen neither requests nor events."""
        self.first_number += len(self.completions)
        self.target, self.lines = target, lines
        if held:
            self.answer.clear()
        else:
            self.answer.set()
        self.calls.clear()
        self.others = ()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of the completion requests since `follow`."""
        return [call.body for call in self.completions]

    def reported(self, kind: str) -> list[dict[str, Any]]:
        """The events of this kind about completions since `follow`."""
        earlier = {f"cmpl-{number}" for number in range(1, self.first_number)}
        return [e for e in self.events if e["event"] == kind and e["completion_id"] not in earlier]

    def reply_to(self, call: Call) -> Reply:
        if self.fault:
            return self.fault
        if self.replies:
            return super().reply_to(call)
        # Two characters a piece, so that nothing in the tests depends on where the stream is cut.
        text = self._completion(call.body["prompt"])
        pieces = tuple(text[start : start + 2] for start in range(0, len(text), 2)) or ("",)
        return Reply(pieces, held=self.answer)

    def _completion(self, prompt: str) -> str:
        if not self.target.startswith(prompt):
            return ""
        rest = self.target[len(prompt) :]
        return "".join(rest.splitlines(keepends=True)[: self.lines]).removesuffix("\n")
