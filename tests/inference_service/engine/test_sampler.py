"""Sampling: the cuts keep what they should, and a seed and a number decide alone."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from inference_service.engine.sampler import Row, Sampling, sample

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()


def draws(count=2000, **fields):
    rows = [Row(Sampling(seed=3, **fields), number) for number in range(count)]
    return Counter(one.token for one in sample(LOGITS.repeat(count, 1), rows))


def test_greedy_takes_the_most_probable_and_tells_its_log_probability():
    (one,) = sample(LOGITS[None], [Row(Sampling(), 0)])
    assert one.token == 0
    assert one.logprob == pytest.approx(math.log(0.5), abs=1e-6)


def test_draws_follow_the_probabilities():
    counts = draws(temperature=1.0)
    for token, probability in enumerate(LOGITS.exp().tolist()):
        assert counts[token] / 2000 == pytest.approx(probability, abs=0.04)


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"min_p": 0.25}, {0, 1, 2}),
        ({"top_k": 4, "top_p": 0.8}, {0, 1, 2}),
    ],
)
def test_cuts_leave_the_tokens_that_they_should(cut, left):
    assert set(draws(temperature=1.0, **cut)) == left


def test_a_very_low_temperature_is_greedy():
    assert set(draws(temperature=1e-45)) == {0}


def test_only_allowed_tokens_come_out():
    rows = [Row(Sampling(1.0, seed=n), 0, np.array([2, 4])) for n in range(200)]
    tokens = [one.token for one in sample(LOGITS.repeat(200, 1), rows)]
    assert set(tokens) == {2, 4}


def test_the_most_probable_of_the_allowed_has_its_own_log_probability():
    free, held = sample(LOGITS.repeat(2, 1), [Row(Sampling(), 0), Row(Sampling(), 0, np.array([3, 4]))])
    assert (free.token, held.token) == (0, 3)
    assert (free.logprob, held.logprob) == pytest.approx(LOGITS.log_softmax(-1)[[0, 3]].tolist())


def test_a_seed_and_a_number_decide_whatever_else_is_sampled():
    row = Row(Sampling(1.0, seed=11), 5)
    alone = sample(LOGITS[None], [row])
    together = sample(LOGITS.repeat(3, 1), [Row(Sampling(0.7, top_k=1), 0), row, Row(Sampling(), 1)])
    assert together[1].token == alone[0].token


def test_not_a_number_shows():
    (bad, good) = sample(torch.stack([torch.full((5,), float("nan")), LOGITS]), [Row(Sampling(), 0)] * 2)
    assert bad.logprob != bad.logprob
    assert good.token == 0
