"""What an evaluation measures: losses, holes, and how sure it is of its figures."""

import ast
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model import directory
from inference_service.model.fim import fim_head, plain_head
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.tokenizer import END_OF_TEXT
from tests.training.small_data import write_small_data
from training.corpus.filters import parses
from training.evaluate.decoding import Decoder
from training.evaluate.holes import block_holes, line_holes, span_holes, whole_documents
from training.evaluate.infilling import REST_OF_LINE, LineCompleter, chars_saved, complete_all
from training.evaluate.loss import bits_per_byte, top1_agreement, windows
from training.evaluate.pass_at_k import pass_at_k
from training.evaluate.statistics import Sample, difference, figure, mcnemar, mean, share
from training.shards import open_split

BLOCKS = '''
def f(a):
    """Not a statement to fill in."""
    if a:
        b = 1
        return b
    elif a is None:
        return 2; c = 3
    for x in a:
        print(x)
        print(
            a,
        )
    return None
'''


@pytest.fixture(scope="module")
def split(tokenizer, tmp_path_factory):
    data = write_small_data(tmp_path_factory.mktemp("small"), tokenizer, 12)
    return open_split(data, "heldout", tokenizer)


@pytest.fixture(scope="module")
def tiny(tiny_model_dir):
    return directory.load(tiny_model_dir).build_float()


def test_bits_per_byte_are_those_of_the_text_and_of_nothing_else(tiny, tokenizer):
    path, text = "a.py", "def f(x):\n    return x + 1  # é\n" * 3
    tokens = plain_head(tokenizer, path) + tokenizer.encode(text)
    logprobs = tiny(torch.tensor([tokens]))[0].log_softmax(-1)
    first = len(plain_head(tokenizer, path))
    bits = -sum(logprobs[i - 1, tokens[i]].item() for i in range(first, len(tokens))) / math.log(2)
    assert bits_per_byte(tiny, tokenizer, [(path, text)], fim=False) == pytest.approx(bits / len(text.encode()))

    cut = len(text) * 2 // 3
    head = fim_head(tokenizer, path, tokenizer.encode(text[cut:]))
    tokens = [*head, *tokenizer.encode(text[:cut]), tokenizer.sentinel(END_OF_TEXT)]
    logprobs = tiny(torch.tensor([tokens]))[0].log_softmax(-1)
    bits = -sum(logprobs[i - 1, tokens[i]].item() for i in range(len(head), len(tokens))) / math.log(2)
    expected = bits / len(text[:cut].encode())
    assert bits_per_byte(tiny, tokenizer, [(path, text)], fim=True) == pytest.approx(expected)


def test_text_beyond_a_short_context_is_not_counted(tokenizer):
    short = GPT(GPTConfig(tokenizer.vocab_size, 1, 2, 1, 32, 64, context_length=64))
    short.init_weights()
    for fim in (False, True):
        value = bits_per_byte(short, tokenizer, [("a.py", "value = function(argument)\n" * 100)], fim=fim)
        assert 1 < value < 10


def test_a_model_agrees_with_itself_and_less_with_another(tiny, tokenizer, split):
    pieces = windows(split, tokenizer, 3, seed=1)
    other = GPT(tiny.config)
    other.init_weights(seed=9)
    assert top1_agreement(tiny, tiny, tokenizer, pieces) == 1.0
    assert top1_agreement(tiny, other, tokenizer, pieces) < 0.5


def test_holes_are_the_same_every_time_and_fit_back_into_their_file(split, tokenizer):
    documents = whole_documents(split, tokenizer, 10, seed=1)
    texts = {document.path: document.text for document in documents}
    assert len(texts) > 5
    for choose in (block_holes, span_holes):
        holes = choose(documents, 300, seed=1)
        assert holes == choose(documents, 300, seed=1) != choose(documents, 300, seed=2)
        assert len(holes) > 5
        for hole in holes:
            assert hole.prefix + hole.middle + hole.suffix == texts[hole.path]
            assert parses(texts[hole.path])
    pieces = windows(split, tokenizer, 10, seed=1)
    for hole in line_holes(pieces, 300, 1, whole_line=True):
        assert hole.prefix.split("\n")[-1].strip() == ""
        assert "\n" not in hole.middle


def test_a_block_hole_is_two_to_five_lines_that_end_a_block(tokenizer):
    ast.parse(BLOCKS)
    middles = {block_holes([("a.py", BLOCKS)], 1, seed)[0].middle for seed in range(60)}
    assert middles == {
        "b = 1\n        return b",
        "print(x)\n        print(\n            a,\n        )",
        "print(\n            a,\n        )",
    }


@pytest.mark.parametrize(
    ("text", "middle", "saved"),
    [
        ("return x", "return x", 8),
        ("return x  ", "return x", 8),
        ("return y", "return x", 0),
        ("a = 1\nb = 2\nc = 3", "a = 1\nb = 2\nc = 4", 11),
        ("a = 2\nb = 2", "a = 1\nb = 2", 0),
        ("a = 1\nb = 2\nand more", "a = 1\nb = 2", 11),
        ("", "x", 0),
    ],
)
def test_characters_are_saved_up_to_the_first_wrong_line(text, middle, saved):
    assert chars_saved(text, middle) == saved


def test_a_line_is_exact_where_the_model_writes_what_was_cut_out(tiny, tokenizer, split):
    decoder, completer = Decoder(tiny, tokenizer), LineCompleter(tiny, tokenizer)
    holes = line_holes(windows(split, tokenizer, 6, seed=1), 6, 1, whole_line=False)
    right = [replace(hole, middle=completer.complete(hole)) for hole in holes]
    assert [outcome.exact for outcome in complete_all(decoder, REST_OF_LINE, right)] == [True] * 6
    assert not all(outcome.exact for outcome in complete_all(decoder, REST_OF_LINE, holes))


def test_wilsons_interval_is_the_published_one():
    found = figure(share([True] * 10 + [False] * 20))
    assert (found.value, found.low, found.high) == pytest.approx((0.3333, 0.1923, 0.5122), abs=1e-4)
    none = figure(share([False] * 300))
    assert none.low == 0
    assert none.high == pytest.approx(0.0126, abs=1e-4)


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_law(rng):
    values = rng.normal(5, 2, 400)
    found = figure(mean(values))
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_a_paired_difference_is_surer_than_two_intervals(rng):
    common = rng.normal(1, 0.5, 200)
    first = Sample(common, np.ones(200))
    second = Sample(common + rng.normal(-0.02, 0.01, 200), np.ones(200))
    found = difference(first, second)
    assert found.high < 0
    assert found.p < 0.01
    assert figure(second).high > figure(first).low
    assert difference(first, first).p == 1.0


def test_mcnemar_counts_only_what_changed():
    before = share([True] * 8 + [False] * 92)
    after = share([False] * 100)
    assert mcnemar(before, after) == pytest.approx(2 / 2**8)
    assert mcnemar(before, before) == 1.0


@given(samples=st.integers(1, 7), data=st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(samples, data):
    passed, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    choices = list(itertools.combinations([True] * passed + [False] * (samples - passed), k))
    assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, choices)) / len(choices))
