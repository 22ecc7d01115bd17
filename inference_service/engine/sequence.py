"""One sequence as the scheduler sees it: tokens, how many are computed, whose it is. No torch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from inference_service.engine.block_manager import Lease


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is the prompt (at least one token) and what was generated since.

    `root` names tenant and model: only sequences of the same root share cached prefixes. Work is dealt fairly
    among `user`s; of two sequences the one with the smaller `priority` goes first.
    """

    tokens: list[int]
    root: Hashable = None
    user: Hashable = None
    priority: int = 0
    draft: list[int] = field(default_factory=list)  # guessed continuation, to be verified in the next step
    lease: Lease | None = None
    computed: int = 0  # leading tokens whose keys and values are in the cache
    cached: int = 0  # of these, how many were found there
    arrival: int = 0
    spent: int = 0  # tokens computed for it, wrong guesses and what a preemption made necessary again included

    @property
    def missing(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return len(self.tokens) - self.computed
