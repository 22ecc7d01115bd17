"""Guesses: found where text repeats, as long as they pay, never across tenants."""

import random

from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.speculation import LONGEST, PromptLookup, Speculation, StepCosts

LINE = [11, 12, 13, 14, 15, 16]


def taught(cost, chance=None):
    """Steps of n tokens cost `cost(n)`; guesses came true with `chance`, where that is given."""
    shared = Speculation()
    for tokens in range(1, 33):
        for _ in range(5):
            shared.costs.observe(tokens, cost(tokens))
    if chance is not None:
        for matched in range(2, 9):
            for _ in range(300):
                shared.verified(matched, 100, round(100 * chance))
    return shared


def flat(tokens):
    return 1.0


def test_what_followed_the_same_tokens_is_guessed():
    prompt = [*LINE, 1, 2, 3, *LINE[:3]]
    guess = PromptLookup(taught(flat), None, prompt).propose(prompt, 0)
    assert guess.tokens[:3] == LINE[3:] and guess.matched == 3


def test_the_longest_match_wins_and_of_equals_the_latest():
    prompt = [1, 2, 3, 50, 9, 2, 3, 60, 8, 2, 3, 70, 1, 2, 3]
    assert PromptLookup(taught(flat), None, prompt).propose(prompt, 0).tokens[0] == 50
    prompt = [2, 3, 60, 8, 2, 3, 70, 1, 2, 3]
    assert PromptLookup(taught(flat), None, prompt).propose(prompt, 0).tokens[0] == 70


def test_what_the_tenant_was_written_is_found_and_no_other_tenant_sees_it():
    shared = taught(flat)
    shared.remember("a", [90, 91, *LINE], generated=4)
    assert PromptLookup(shared, "a", [1, 90, 91, *LINE[:2]]).propose([1, 90, 91, *LINE[:2]], 0).tokens == LINE[2:]
    assert PromptLookup(shared, "b", [1, 90, 91, *LINE[:2]]).propose([1, 90, 91, *LINE[:2]], 0) is None


def test_a_guess_never_runs_into_the_next_completion():
    shared = taught(flat)
    shared.remember("a", LINE, generated=6)
    shared.remember("a", [21, 22, 23], generated=3)
    assert PromptLookup(shared, "a", [7, 15, 16]).propose([7, 15, 16], 0) is None
    assert -1 not in (PromptLookup(shared, "a", [7, 14, 15]).propose([7, 14, 15], 0).tokens)


def test_the_length_follows_what_guesses_cost_and_bring():
    assert taught(flat, 0.9).length(0.9, 0) == LONGEST
    assert taught(lambda n: n).length(0.9, 0) == 0  # each token costs a step: nothing to win
    dear, cheap = taught(lambda n: 1 + 0.5 * (n - 1)), taught(lambda n: 1 + 0.1 * (n - 1))
    assert 0 < dear.length(0.8, 0) < cheap.length(0.8, 0)
    assert dear.length(0.2, 0) == 0
    # where a step is busy anyway and each token costs, a guess has to be surer
    assert taught(lambda n: 4 + n).length(0.6, 16) < taught(lambda n: 4 + n).length(0.6, 0)


def test_a_request_whose_guesses_fail_stops_guessing_and_others_go_on():
    shared = taught(lambda n: 1 + 0.4 * (n - 1), 0.7)
    prompt = [*LINE, 1, 2, 3, *LINE[:3]]
    unlucky = PromptLookup(shared, None, prompt)
    proposed = 0
    while (guess := unlucky.propose(prompt, 0)) is not None:
        unlucky.verified(guess, 0)
        proposed += 1
        assert proposed < 12
    assert PromptLookup(shared, None, prompt).propose(prompt, 0) is not None


def test_one_slow_step_does_not_keep_its_size_from_being_tried():
    costs = StepCosts()
    for _ in range(5):
        costs.observe(1, 1.0)
    costs.observe(4, 50.0)
    assert costs(4) < 3
    for _ in range(5):
        costs.observe(4, 1.5)
    assert costs(4) == 1.5


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(TOKENS, TOKENS, st.integers(0, 9))
def test_a_guess_is_what_stood_behind_such_a_match(prompt, later, others):
    shared = taught(flat)
    lookup = PromptLookup(shared, None, prompt)
    tokens = list(prompt)
    choose = random.Random(0)
    for token in [None, *later]:
        if token is not None:
            tokens.append(token)
        guess = lookup.propose(tokens, others)
        if guess is None:
            continue
        matched = guess.matched
        assert 1 <= len(guess.tokens) <= LONGEST
        end = tokens[-matched:] + guess.tokens
        assert any(tokens[i : i + len(end)] == end for i in range(len(tokens)))
        lookup.verified(guess, choose.randrange(len(guess.tokens) + 1))
