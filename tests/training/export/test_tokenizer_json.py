"""tokenizer.json: the same ids from another library."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from inference_service.model import huggingface
from inference_service.model.tokenizer import END_OF_TEXT, SENTINELS
from tests.conftest import BUNDLED_NANO
from tests.inference_service.model.huggingface.small_models import random_model, save
from tests.training.prepared import BYTES
from training.export.tokenizer_json import document, merges

CODE = st.text(st.sampled_from("abcdefxyz_ABé漢🎉\n\t\r  ()[]{}=+<>.,:#'\"0123456789"), max_size=80)


@pytest.fixture(scope="module")
def library(tokenizer):
    read = Library.from_str(document(tokenizer))
    read.encode_special_tokens = True  # the text of a sentinel is plain text, as in ours
    return read


@given(text=CODE | st.text(max_size=60))
def test_random_text_gets_the_same_ids(tokenizer, library, text):
    assert library.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)


def test_code_gets_the_same_ids_and_comes_back(tokenizer, library):
    for path in sorted(BUNDLED_NANO.parents[1].rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        ids = library.encode(text, add_special_tokens=False).ids
        assert ids == tokenizer.encode(text)
        assert library.decode(ids) == text


def test_sentinels_have_our_ids(tokenizer):
    read = Library.from_str(document(tokenizer))
    assert [read.token_to_id(name) for name in SENTINELS] == [tokenizer.sentinel(name) for name in SENTINELS]
    assert read.encode(f"x{END_OF_TEXT}", add_special_tokens=False).ids[-1] == tokenizer.sentinel(END_OF_TEXT)


def test_another_familys_tokenizer_keeps_its_ids(gpt2):
    read = Library.from_str(document(gpt2.tokenizer))
    text = "def main(self):\n    return 'it\\'s'  # 漢字 123\n"
    assert read.encode(text, add_special_tokens=False).ids == gpt2.tokenizer.encode(text)


def test_an_end_with_two_names_is_one_token(tmp_path):
    """Another family's end of text is END_OF_TEXT as well in ours."""
    loaded = huggingface.load(save(random_model("llama3"), "llama3", tmp_path))
    ours = loaded.tokenizer
    read = Library.from_str(document(ours))
    assert ours.sentinel("<|end_of_text|>") == ours.sentinel(END_OF_TEXT)
    assert read.id_to_token(ours.sentinel(END_OF_TEXT)) == "<|end_of_text|>"
    assert read.token_to_id(END_OF_TEXT) is None
    text = "for i in range(12345):\n    pass\n"
    assert read.encode(text, add_special_tokens=False).ids == ours.encode(text)


def test_a_tokenizer_of_single_bytes_has_no_merges():
    assert json.loads(document(BYTES))["model"]["merges"] == []


def test_each_merge_makes_the_token_of_its_place(tokenizer):
    made = [left + right for left, right in merges(tokenizer.ranks)]
    assert made == [token for token in tokenizer.ranks if len(token) > 1]


def test_ranks_that_no_training_makes_are_refused():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    with pytest.raises(ValueError, match="token b'abc' of rank 256 is no merge of two tokens before it"):
        merges(ranks)
