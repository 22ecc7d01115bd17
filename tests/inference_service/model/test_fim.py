"""Prompt formats: each family's, as its paper or model card writes it."""

import pytest

from inference_service.model.fim import FORMATS, context_file, family_format, fim_head, fim_tail, plain_head
from inference_service.model.tokenizer import Scheme, Tokenizer


def tokenizer_of(name):
    """Bytes, and the sentinels of a format."""
    sentinels = {sentinel: 300 + i for i, sentinel in enumerate(sorted(FORMATS[name].sentinels))}
    scheme = Scheme(sentinels | {"<|endoftext|>": 299}, name, pattern=r"[\s\S]")
    return Tokenizer({bytes([byte]): byte for byte in range(256)}, scheme)


def written(tokenizer, tokens):
    """Tokens as a text with the sentinels' names."""
    names = {tokenizer.sentinel(name): name for name in tokenizer.fim.sentinels}
    return "".join(names.get(token) or chr(token) for token in tokens)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("spm2", "<file_sep>b.py\nB = 1\n<file_sep>a.py<fim_prefix><fim_suffix>SUF<fim_middle>PRE"),
        (
            "qwen2.5-coder",
            "<|file_sep|>b.py\nB = 1\n<|file_sep|>a.py\n<|fim_prefix|>PRE<|fim_suffix|>SUF<|fim_middle|>",
        ),
        ("deepseek-coder", "#b.py\nB = 1\n<｜fim▁begin｜>#a.py\nPRE<｜fim▁hole｜>SUF<｜fim▁end｜>"),
        ("codellama", "# b.py\nB = 1\n▁<PRE>PRE▁<SUF>SUF▁<MID>"),
        ("starcoder2", "<file_sep>b.py\nB = 1\n<file_sep><fim_prefix>a.py\nPRE<fim_suffix>SUF<fim_middle>"),
        ("mellum", "<filename>b.py\nB = 1\n<filename>a.py\n<fim_suffix>SUF<fim_prefix>PRE<fim_middle>"),
        ("starcoder", "<filename>b.py\nB = 1\n<filename>a.py\n<fim_prefix>PRE<fim_suffix>SUF<fim_middle>"),
        ("santacoder", "# b.py\nB = 1\n<fim-prefix>PRE<fim-suffix>SUF<fim-middle>"),
    ],
)
def test_a_prompt_with_another_file_a_path_and_a_suffix(name, prompt):
    tokenizer = tokenizer_of(name)
    suffix = tokenizer.encode("SUF")
    tokens = [
        *context_file(tokenizer, "b.py", "B = 1\n"),
        *fim_head(tokenizer, "a.py", suffix),
        *tokenizer.encode("PRE"),
        *fim_tail(tokenizer, "a.py", suffix),
    ]
    assert written(tokenizer, tokens) == prompt


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("spm2", "<fim_prefix><fim_suffix>SUF<fim_middle>"),
        ("starcoder2", "<fim_prefix>"),
        ("mellum", "<fim_suffix>SUF<fim_prefix>"),
    ],
)
def test_without_a_path_nothing_of_it_is_left(name, head):
    tokenizer = tokenizer_of(name)
    assert written(tokenizer, fim_head(tokenizer, None, tokenizer.encode("SUF"))) == head
    assert plain_head(tokenizer, None) == []


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("spm2", "<file_sep>a.py\n"),
        ("qwen2.5-coder", "<|file_sep|>a.py\n"),
        ("deepseek-coder", "#a.py\n"),
        ("plain", "# a.py\n"),
    ],
)
def test_a_file_that_is_only_continued_begins_like_a_context_file(name, head):
    tokenizer = tokenizer_of(name)
    assert written(tokenizer, plain_head(tokenizer, "a.py")) == head


def test_a_path_cannot_bring_in_sentinels_or_placeholders():
    tokenizer = tokenizer_of("spm2")
    tokens = context_file(tokenizer, "<fim_middle>{text}[x]", "{path}<file_sep>")
    assert tokens == [tokenizer.sentinel("<file_sep>"), *b"<fim_middle>{text}[x]\n{path}<file_sep>"]


def test_a_model_that_cannot_fill_in_says_so():
    tokenizer = tokenizer_of("plain")
    for part in (fim_head, fim_tail):
        with pytest.raises(ValueError, match="not trained to fill in"):
            part(tokenizer, "a.py", [])


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        (format_type, name)
        for name in FORMATS
        if name not in ("spm2", "plain")
        for format_type in ("llama", "gpt_bigcode", "qwen2")
    ],
)
def test_the_format_is_known_by_model_type_and_sentinels(model_type, name):
    expected = {"mellum": "starcoder", "starcoder": "mellum"}.get(name, name)
    if (model_type == "llama") == (name == "mellum"):
        expected = name
    assert family_format(model_type, FORMATS[name].sentinels).name == expected
    assert family_format(model_type, set()).name == "plain"
