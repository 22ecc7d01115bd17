"""The tokenizer: what goes in comes out, and its cuts are the ones that completion relies on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model.tokenizer import SENTINELS, Tokenizer
from tests.conftest import BUNDLED_NANO

UNKNOWN_FORMAT = '{"sentinels": {"<|endoftext|>": 1}, "fim": "unheard of", "pattern": "."}\nYQ== 0'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(alphabet=" \t\n\rab_(.é\U0001f600", max_size=60))
def test_a_line_break_only_ever_begins_a_token(tokenizer, text):
    for token in tokenizer.encode(text):
        piece = tokenizer.token_bytes(token)
        assert b"\n" not in piece.lstrip(b"\r\n")


def test_indentation_is_one_token(tokenizer):
    tokens = tokenizer.encode("\n        return x")
    assert tokenizer.token_bytes(tokens[0]) == b"\n        "


def test_sentinels_typed_by_a_person_are_plain_text(tokenizer):
    for name in SENTINELS:
        tokens = tokenizer.encode(f"a {name} b")
        assert not any(tokenizer.is_sentinel(token) for token in tokens)
        assert tokenizer.decode(tokens) == f"a {name} b"


def test_vocabulary_is_16k_and_fits_16_bits(tokenizer):
    assert tokenizer.vocab_size == 16384


def test_save_and_load_keep_the_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.tiktoken")
    again = Tokenizer.load(tmp_path / "t.tiktoken")
    assert again.digest == tokenizer.digest
    assert again.encode("def f(x):\n    return x") == tokenizer.encode("def f(x):\n    return x")


def test_lone_surrogates_do_not_raise(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b"))


@pytest.mark.parametrize(
    "content",
    ["no rank\nhere", "YQ== x", "!!! 0", "YQ== 5", "YQ== 0 7\nYg== 1", "{broken", '{"some": 1}', UNKNOWN_FORMAT],
)
def test_a_broken_file_is_named_in_the_error(tmp_path, content):
    path = tmp_path / "bad.tiktoken"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bad\.tiktoken"):
        Tokenizer.load(path)
