"""Every family's tokenizer gives the ids that `tokenizers` gives."""

import json
import pickle
import random
import sys
import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from inference_service.model.bpe import LibraryBPE, TiktokenBPE
from inference_service.model.healing import Vocabulary, split_for_healing
from inference_service.model.huggingface.split import split_pattern
from inference_service.model.huggingface.tokenizer import read_tokenizer
from inference_service.model.location import BadModel
from inference_service.model.tokenizer import END_OF_TEXT, SPLIT_PATTERN, Tokenizer
from tests.inference_service.model.huggingface.small_tokenizers import SOURCES, build

MODEL_TYPES = {"gpt2": "gpt2", "starcoder": "gpt_bigcode", "starcoder2": "starcoder2", "qwen2": "qwen2"}
BY_TIKTOKEN = ["gpt2", "starcoder", "starcoder2", "smollm", "mellum", "qwen2", "llama3", "deepseek"]
BY_LIBRARY = ["unknown", "codellama"]
# what the split patterns distinguish, and characters that they can see as one or the other
CHARACTERS = (
    " \t\n\r\x0b\x85\xa0\u2003\u3000abzAZ'sSſtdD_0129٣Ⅷ²½().,;:!?—“”、«»$+=<>|^`→✓中文가나ऄॐあāßüÿ\u0301\u0327e😀"
)


def read(family, folder):
    document = build(family)
    names = {token["content"]: token["id"] for token in document["added_tokens"]}
    end = next(token for name, token in names.items() if "end" in name or name == "</s>")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return read_tokenizer(folder, {"model_type": MODEL_TYPES.get(family, "llama"), "eos_token_id": end})


def library(document):
    """The reference; sentinels in a text are plain text, and there is no blank before it."""
    if document["normalizer"] and document["normalizer"]["type"] == "Sequence":
        document = document | {"normalizer": document["normalizer"]["normalizers"][1]}
    tokens = [token | {"special": "<" in token["content"]} for token in document["added_tokens"]]
    document = document | {"added_tokens": tokens}
    tokenizer = LibraryTokenizer.from_str(json.dumps(document))
    tokenizer.encode_special_tokens = True
    return tokenizer


def normalised(family, text):
    """What a family's tokenizer keeps of a text."""
    if family == "qwen2":
        return unicodedata.normalize("NFC", text)
    return text.replace("▁", " ") if family == "codellama" else text


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(ours, theirs) by family."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: (read(name, folder / name), library(build(name))) for name in BY_TIKTOKEN + BY_LIBRARY}


# Unicode 14 is the newest that all of the libraries know; none has lone surrogates
texts = st.one_of(
    st.text(st.sampled_from(CHARACTERS), max_size=30),
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20),
    st.lists(st.sampled_from(["def f(", "    ", "\n", "\n\n", "return ", "1234", "it's", "=", "self.", "# é"])).map(
        "".join
    ),
)


@pytest.mark.parametrize("family", BY_TIKTOKEN + BY_LIBRARY)
@settings(max_examples=60)
@given(text=texts)
def test_ids_are_the_same_and_the_text_comes_back(pairs, family, text):
    ours, theirs = pairs[family]
    tokens = ours.encode(text)
    assert tokens == theirs.encode(text, add_special_tokens=False).ids
    assert "".join(ours.words(text)) == text
    assert ours.decode(tokens) == normalised(family, text)


@pytest.mark.parametrize("family", BY_TIKTOKEN + BY_LIBRARY)
def test_code_gives_the_same_ids(pairs, family):
    ours, theirs = pairs[family]
    for source in SOURCES[::4]:
        text = source.read_text(encoding="utf-8")
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == normalised(family, text)


@pytest.mark.parametrize("family", BY_TIKTOKEN)
def test_known_pre_tokenizers_are_one_pattern(pairs, family):
    ours, theirs = pairs[family]
    assert isinstance(ours._bpe, TiktokenBPE)
    choose = random.Random(5)
    for _ in range(1000):
        text = "".join(choose.choices(CHARACTERS, k=choose.randrange(1, 14)))
        assert ours.words(text) == [text[a:b] for _, (a, b) in theirs.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("family", [*BY_TIKTOKEN, "midfill"])
def test_an_exported_pattern_is_known_again(pairs, family):
    """As one Split, which is how a tokenizer of ours is written for others."""
    pattern = SPLIT_PATTERN if family == "midfill" else pairs[family][0].scheme.pattern
    steps = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    exported = LibraryTokenizer(models.BPE())
    exported.pre_tokenizer = steps
    assert split_pattern(json.loads(exported.to_str())["pre_tokenizer"]) == pattern
    choose, ours = random.Random(6), regex.compile(pattern)
    for _ in range(300):
        text = "".join(choose.choices(CHARACTERS, k=choose.randrange(1, 14)))
        assert ours.findall(text) == [text[a:b] for _, (a, b) in steps.pre_tokenize_str(text)]


@pytest.mark.parametrize("family", BY_LIBRARY)
def test_others_are_left_to_the_library(pairs, family):
    assert isinstance(pairs[family][0]._bpe, LibraryBPE)


@pytest.mark.parametrize("family", BY_TIKTOKEN + BY_LIBRARY)
def test_sentinels_are_ids_and_in_a_text_they_are_text(pairs, family):
    ours, _ = pairs[family]
    sentinels = [token["content"] for token in build(family)["added_tokens"] if "<" in token["content"]]
    for name in {*sentinels, END_OF_TEXT}:
        assert ours.is_sentinel(ours.sentinel(name))
        tokens = ours.encode(f"a {name} b")
        assert not any(ours.is_sentinel(token) for token in tokens)
        assert ours.decode(tokens) == normalised(family, f"a {name} b")
    assert ours.is_sentinel(ours.vocab_size + 10)


def test_added_words_are_tokens_of_their_own(pairs):
    ours, theirs = pairs["deepseek"]
    (token,) = ours.encode("ü")
    assert token == theirs.token_to_id("ü") and not ours.is_sentinel(token) and ours.decode([token]) == "ü"


def test_the_beginning_of_every_text_is_known(pairs):
    assert pairs["llama3"][0].begin == [pairs["llama3"][0].sentinel("<|begin_of_text|>")]
    assert pairs["deepseek"][0].begin == [pairs["deepseek"][0].sentinel("<｜begin▁of▁sentence｜>")]
    assert pairs["codellama"][0].begin == [pairs["codellama"][0].sentinel("<s>")]
    assert pairs["qwen2"][0].begin == []


@pytest.mark.parametrize(("setting", "begins"), [(True, True), (False, False)])
def test_tokenizer_config_says_whether_texts_have_a_beginning(tmp_path, setting, begins):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": setting, "bos_token": {"content": "<|begin_of_text|>"}})
    )
    assert bool(read("llama3", tmp_path).begin) == begins


@pytest.mark.parametrize("family", BY_TIKTOKEN + BY_LIBRARY)
def test_save_and_load_keep_the_ids(pairs, family, tmp_path):
    ours, _ = pairs[family]
    ours.save(tmp_path / "t.tiktoken")
    again = Tokenizer.load(tmp_path / "t.tiktoken")
    text = "def f(x):\n    return 12 * x  # ü 中文 <s> <|endoftext|>\n"
    assert again.encode(text) == ours.encode(text)
    assert pickle.loads(pickle.dumps(ours)).encode(text) == ours.encode(text), "as another process gets it"
    assert (again.digest, again.fim, again.begin) == (ours.digest, ours.fim, ours.begin)
    assert again.vocabulary == ours.vocabulary
    assert len({tokenizer.digest for tokenizer, _ in pairs.values()}) == len(pairs)


@pytest.mark.parametrize("family", BY_TIKTOKEN + BY_LIBRARY)
@settings(max_examples=30)
@given(text=texts, seed=st.integers(0, 100))
def test_healing_spells_the_last_word_again(pairs, family, text, seed):
    ours, _ = pairs[family]
    vocabulary, choose = Vocabulary(ours), random.Random(seed)
    tokens = ours.encode(text)
    kept, typed = split_for_healing(ours, tokens)
    whole = b"".join(map(ours.token_bytes, tokens))
    assert b"".join(map(ours.token_bytes, kept)) + typed == whole
    spelled = b""
    while len(spelled) < len(typed):
        token = choose.choice(vocabulary.continuing(typed[len(spelled) :]))
        assert not ours.is_sentinel(token)
        spelled += ours.token_bytes(token)
    assert spelled.startswith(typed)


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "starcoder2"])
def test_the_indentation_goes_to_the_next_word_where_the_family_has_it_so(pairs, family):
    ours, _ = pairs[family]
    kept, typed = split_for_healing(ours, ours.encode("def f(x):\n        "))
    assert typed.endswith(b"        ")
    assert ours.encode("def f(x):\n        return")[: len(kept)] == kept


def shuffled_ids(document, seed):
    """The same merges, but ids in another order than theirs."""
    ids = list(range(len(document["model"]["vocab"])))
    random.Random(seed).shuffle(ids)
    vocabulary = {piece: ids[token] for piece, token in document["model"]["vocab"].items()}
    return document | {"model": document["model"] | {"vocab": vocabulary}}


def test_ids_in_another_order_than_the_merges(tmp_path):
    document = shuffled_ids(build("gpt2"), seed=1)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    ours, theirs = read_tokenizer(tmp_path, {"model_type": "gpt2", "eos_token_id": 700}), library(document)
    assert isinstance(ours._bpe, TiktokenBPE)
    text = SOURCES[3].read_text(encoding="utf-8")
    assert ours.encode(text) == theirs.encode(text).ids
    ours.save(tmp_path / "t.tiktoken")
    assert Tokenizer.load(tmp_path / "t.tiktoken").encode(text) == ours.encode(text)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), moves=st.integers(1, 8))
def test_merges_in_a_wrong_order_still_give_the_same_ids(tmp_path_factory, seed, moves):
    """Where tiktoken would merge otherwise, the library does it."""
    choose = random.Random(seed)
    document = build("gpt2")
    merges = list(document["model"]["merges"])
    for _ in range(moves):
        merges.insert(choose.randrange(len(merges)), merges.pop(choose.randrange(len(merges))))
    document = document | {"model": document["model"] | {"merges": merges}}
    folder = tmp_path_factory.mktemp("merges")
    (folder / "tokenizer.json").write_text(json.dumps(document))
    ours, theirs = read_tokenizer(folder, {"model_type": "gpt2", "eos_token_id": 700}), library(document)
    text = choose.choice(SOURCES).read_text(encoding="utf-8")
    assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_vocabulary_and_merges_without_a_tokenizer_json(tmp_path, pairs, family):
    document = build(family)
    added = {str(token["id"]): token for token in document["added_tokens"]}
    vocabulary = dict(document["model"]["vocab"])
    if family == "gpt2":
        vocabulary["<|endoftext|>"], added = 700, {}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": added, "eos_token": "<|endoftext|>"})
    )
    ours, whole = read_tokenizer(tmp_path, {"model_type": family}), pairs[family][0]
    text = "def f(x):\n    return 12 * x  # e\u0301 <|fim_prefix|>\n"
    assert ours.encode(text) == whole.encode(text)
    assert ours.sentinel(END_OF_TEXT) == whole.sentinel(END_OF_TEXT) and ours.fim == whole.fim


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "type Unigram is not supported"),
        ({"model": {}}, "cannot be read"),
        ({"added_tokens": []}, "names the token that ends a text"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "neither byte-level BPE nor SentencePiece"),
    ],
)
def test_a_tokenizer_that_we_cannot_reproduce_is_refused(tmp_path, change, says):
    (tmp_path / "tokenizer.json").write_text(json.dumps(build("llama3") | change))
    with pytest.raises(BadModel, match=says):
        read_tokenizer(tmp_path, {"model_type": "llama", "eos_token_id": 701})


def test_a_missing_tokenizer_json_is_told_with_the_remedy(tmp_path):
    with pytest.raises(BadModel, match=r"tokenizer\.json is missing: write it with transformers"):
        read_tokenizer(tmp_path, {"model_type": "llama"})


def test_sentinels_without_an_embedding_are_not_used(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(build("qwen2")))
    ours = read_tokenizer(tmp_path, {"model_type": "qwen2", "eos_token_id": 700, "vocab_size": 702})
    assert ours.vocab_size == 702 and ours.fim.infill is None


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadModel, match="install midfill"):
        read("codellama", tmp_path)
