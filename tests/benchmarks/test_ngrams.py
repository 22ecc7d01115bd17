"""The baseline is a fair one: its probabilities are probabilities, and it knows what it has seen."""

import numpy as np
import pytest

from tests.benchmarks.ngrams import NGrams

VOCABULARY = 300
TEXT = np.random.default_rng(0).integers(0, 60, 4000)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_of_all_tokens_after_a_context_add_up_to_one(order):
    ngrams = NGrams(TEXT, order, VOCABULARY)
    for context in (TEXT[500:503], np.array([299, 298, 297])):  # seen, and never seen
        every = [ngrams.probabilities(np.append(context, token), 3)[0] for token in range(VOCABULARY)]
        assert min(every) > 0
        assert sum(every) == pytest.approx(1)


def test_a_text_that_was_seen_is_likelier_and_is_continued():
    ngrams = NGrams(TEXT, 4, VOCABULARY)
    other = np.random.default_rng(1).integers(0, 60, 50)
    assert np.log(ngrams.probabilities(TEXT[:50], 3)).mean() > np.log(ngrams.probabilities(other, 3)).mean() + 1
    cycle = NGrams(np.array([1, 2, 3, 4, 5] * 50), 3, VOCABULARY)
    assert [cycle.likeliest([9, 2, 3]), cycle.likeliest([5, 1])] == [4, 2]
