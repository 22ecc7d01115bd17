"""Guesses of the next tokens, verified by the model in the same step that would compute one token anyway.

Prompt lookup (Saxena 2023): code repeats itself, so what followed the last tokens earlier in the prompt, or in what the
tenant was written of late, is likely to follow again. The verification compares each guess with the token that is
sampled in its place: the text is the same with and without guesses.

How many tokens to guess follows from what was measured: how often guesses after a match of that length came true, in
this request and before it, and what steps of more tokens cost on this machine.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

LONGEST = 7  # tokens of a guess: with the one before them as many rows as a step computes cheaply
_SHORTEST_MATCH, _LONGEST_MATCH = 2, 8  # tokens that must repeat before what followed them is guessed
_PRIOR_WEIGHT = 4.0  # verified guesses of a request that weigh as much as all experience before it
_FORGETTING = 0.98
_WORTH = 1.05  # a guess has to promise that much more text per second
_TRUSTED = 3  # steps of a size
_SLOWER = 0.02  # weight of an observation above the least; one below counts whole
_KEPT_TOKENS, _KEPT_TENANTS = 2048, 256
_NOTHING = np.empty(0, np.int64)
_CONTEXT = _LONGEST_MATCH  # tokens before a completion that are kept with it: its beginning is found by them


@dataclass(slots=True)
class Guess:
    """`tokens` after a match of `matched` tokens."""

    tokens: list[int]
    matched: int


class StepCosts:
    """Seconds of a step by its number of tokens, as observed; guessed from the nearest where too little is known."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._observed: Counter[int] = Counter()

    def observe(self, tokens: int, seconds: float) -> None:
        before = self._seconds.get(tokens, seconds)
        # a step is often interrupted on a busy machine, but never faster than it is
        self._seconds[tokens] = before + (_SLOWER if seconds > before else 1.0) * (seconds - before)
        self._observed[tokens] += 1

    def __call__(self, tokens: int) -> float:
        known = [count for count, times in self._observed.items() if times >= _TRUSTED]
        if tokens in known:
            return self._seconds[tokens]
        nearest = min(known, key=lambda other: abs(other - tokens), default=None)
        scale = 1.0 if nearest is None else self._seconds[nearest] / _unmeasured(nearest)
        # one slow step must not keep its size from being tried again
        return scale * _unmeasured(tokens)


class Speculation:
    """What all sequences of an engine know together. Not safe for several threads."""

    def __init__(self) -> None:
        self.costs = StepCosts()
        self._right = np.linspace(0.3, 0.8, _LONGEST_MATCH + 1)  # by length of the match
        self._tried = np.ones(_LONGEST_MATCH + 1)
        self._written: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def chance(self, matched: int) -> float:
        """How likely a guessed token is right after a match of that many tokens."""
        return float(self._right[matched] / self._tried[matched])

    def verified(self, matched: int, tried: int, right: int) -> None:
        self._right[matched] = _FORGETTING * self._right[matched] + right
        self._tried[matched] = _FORGETTING * self._tried[matched] + tried

    def remember(self, root: Hashable, tokens: Sequence[int], generated: int) -> None:
        """The last `generated` of `tokens` were written for somebody of `root`."""
        if not generated:
            return
        new = [*tokens[-generated - _CONTEXT :], -1]  # nothing matches across the end
        self._written[root] = np.concatenate([self.written(root), np.array(new, dtype=np.int64)])[-_KEPT_TOKENS:]
        self._written.move_to_end(root)
        while len(self._written) > _KEPT_TENANTS:
            self._written.popitem(last=False)

    def written(self, root: Hashable) -> np.ndarray:
        """What `remember` was told of `root`, oldest first, ends marked by -1."""
        return self._written.get(root, _NOTHING)

    def length(self, chance: float, others: int) -> int:
        """How many tokens to guess, in a step with `others` tokens of other sequences, for the most text a second."""
        best, best_rate = 0, _WORTH * (others + 1) / self.costs(others + 1)
        expected, more = 1.0, 1.0
        for count in range(1, LONGEST + 1):
            more *= chance
            expected += more
            rate = (others + expected) / self.costs(others + 1 + count)
            if rate > best_rate:
                best, best_rate = count, rate
        return best


class PromptLookup:
    """The guesses for one sequence of `root`: from its own tokens and from what was written for `root` before."""

    def __init__(self, shared: Speculation, root: Hashable, tokens: Sequence[int]) -> None:
        self._shared = shared
        before = shared.written(root)
        self._offset = len(before)
        self._tokens = np.concatenate([before, np.array(tokens, dtype=np.int64), np.full(256, -1)])
        self._count = self._offset + len(tokens)
        self._tried = self._right = 0

    def propose(self, tokens: Sequence[int], others: int) -> Guess | None:
        """What followed the latest of the longest matches of the end of `tokens`; often nothing.

        `tokens` are those of the last call, or of the construction, and more. `others`: tokens of other sequences in
        the step that will verify the guess.
        """
        self._append(tokens)
        seen = self._tokens[: self._count]
        places = np.flatnonzero(seen[:-1] == seen[-1])
        matched = 1
        while len(places) and matched < min(_LONGEST_MATCH, len(tokens)):
            longer = places[places >= matched]
            longer = longer[seen[longer - matched] == seen[-1 - matched]]
            if not len(longer):
                break
            places, matched = longer, matched + 1
        if not len(places) or matched < _SHORTEST_MATCH:
            return None
        start = int(places[-1]) + 1
        length = self._shared.length(self.chance(matched), others)
        follow = seen[start : start + length].tolist()
        if -1 in follow:
            follow = follow[: follow.index(-1)]
        return Guess(follow, matched) if follow else None

    def chance(self, matched: int) -> float:
        """That of all sequences, moved by what came true in this one."""
        prior = _PRIOR_WEIGHT * self._shared.chance(matched)
        return (prior + self._right) / (_PRIOR_WEIGHT + self._tried)

    def verified(self, guess: Guess, right: int) -> None:
        """Of the guessed tokens, the first `right` came true; what follows a wrong one was not tried."""
        tried = min(right + 1, len(guess.tokens))
        self._tried, self._right = self._tried + tried, self._right + right
        self._shared.verified(guess.matched, tried, right)

    def _append(self, tokens: Sequence[int]) -> None:
        count = self._offset + len(tokens)
        if count > len(self._tokens):
            self._tokens = np.concatenate([self._tokens[: self._count], np.full(count, -1)])
        self._tokens[self._count : count] = tokens[self._count - self._offset :]
        self._count = count


def _unmeasured(tokens: int) -> float:
    """A small model on a CPU, where a token more is a third of a step: the order of magnitude to begin with."""
    return 2 + tokens
