"""A whole answer, and what is left of it when its user has typed its beginning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from inference_service.engine.request import CompletionRequest
from inference_service.engine.stopping import StopDetector


@dataclass(frozen=True, slots=True)
class Entry:
    """`pieces` are (text, log probability in nats) of the tokens; their text may go beyond `text`, which was cut."""

    text: str
    reason: Literal["stop", "length"]
    prompt_tokens: int
    pieces: tuple[tuple[str, float], ...]

    def to_bytes(self) -> bytes:
        """For a store."""
        return json.dumps([self.text, self.reason, self.prompt_tokens, self.pieces]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """What `to_bytes` gave. Raises ValueError for anything else."""
        try:
            text, reason, prompt_tokens, pieces = json.loads(data)
            return cls(str(text), reason, int(prompt_tokens), tuple((str(piece), float(v)) for piece, v in pieces))
        except TypeError as error:
            raise ValueError(str(error)) from None


def typed_through(entry: Entry, request: CompletionRequest, typed: int) -> Entry | None:
    """The answer to `request`, whose last `typed` characters came after the prompt of `entry`; None when it cannot be
    told from `entry`.

    The text must begin with what was typed, and have come to its end: one that was cut at max_tokens would have gone
    on. The stop rules are applied to what is left as they apply to the new prompt; in block mode they depend on the
    line of the cursor, so a text that they do not end again, but that the old ones may have ended, is not told.
    """
    if not typed:
        return entry
    said = request.prompt[len(request.prompt) - typed :]
    if entry.reason != "stop" or not entry.text.startswith(said):
        return None
    rest = entry.text[typed:]
    detector = StopDetector(request.prompt, request.mode, request.stop)
    text, ended = detector.push(rest)
    if not ended:
        if request.mode == "block" and not _same_block(request.prompt[: len(request.prompt) - typed], said):
            return None
        text = rest
    return Entry(text, "stop", entry.prompt_tokens, _after(entry.pieces, typed))


def _same_block(prompt: str, typed: str) -> bool:
    """Whether the block ends at the same place for the old cursor and for the new one."""
    line = prompt[prompt.rfind("\n") + 1 :]
    return bool(line.strip()) and "\n" not in typed


def _after(pieces: tuple[tuple[str, float], ...], characters: int) -> tuple[tuple[str, float], ...]:
    left: list[tuple[str, float]] = []
    for text, value in pieces:
        if characters < len(text) or (not text and not characters):
            left.append((text[characters:], value))
        characters = max(characters - len(text), 0)
    return tuple(left)


def mean(pieces: tuple[tuple[str, float], ...]) -> float | None:
    """Mean log probability per token."""
    values: list[Any] = [value for _, value in pieces]
    return sum(values) / len(values) if values else None
