"""Token healing: typed bytes are spelled again, whatever was typed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model.healing import Vocabulary, split_for_healing
from inference_service.model.tokenizer import Tokenizer
from tests.conftest import BUNDLED_NANO


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")


@pytest.fixture(scope="module")
def vocabulary(tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer)


@given(text=st.text(max_size=50))
def test_kept_tokens_and_typed_bytes_are_the_text(tokenizer, text):
    tokens = tokenizer.encode(text)
    kept, typed = split_for_healing(tokenizer, tokens)
    assert b"".join(map(tokenizer.token_bytes, kept)) + typed == b"".join(map(tokenizer.token_bytes, tokens))


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("    retur", b"retur"),
        ("self.conf", b".conf"),
        ("x = ", b" "),
        ("def f(", b"("),
        ("a\n        ", b""),  # an indentation is a boundary already
        ("", b""),
    ],
)
def test_the_word_under_the_cursor_is_spelled_again(tokenizer, text, typed):
    assert split_for_healing(tokenizer, tokenizer.encode(text))[1] == typed


def test_a_very_long_word_is_not_spelled_again_whole(tokenizer):
    assert len(split_for_healing(tokenizer, tokenizer.encode("x" * 500))[1]) <= 32


@given(typed=st.binary(min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_every_allowed_walk_spells_the_typed_bytes(tokenizer, vocabulary, typed, seed):
    choose = random.Random(seed)
    left, spelled = typed, b""
    while left:
        token = tokenizer.token_bytes(choose.choice(vocabulary.continuing(left)))
        spelled += token
        left = left[len(token) :]
    assert spelled.startswith(typed)


def test_whole_words_are_among_the_candidates(tokenizer, vocabulary):
    candidates = {tokenizer.token_bytes(token) for token in vocabulary.continuing(b"retur")}
    assert b"return" in candidates
    assert all(c.startswith(b"retur") or b"retur".startswith(c) for c in candidates)
