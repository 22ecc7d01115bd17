"""Small tokenizers with the settings of each family, trained here on this repository's code."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SOURCES = sorted((Path(__file__).parents[4] / "inference_service").rglob("*.py"))
VOCABULARY = 700
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")
STARCODER = ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>")


def byte_level(**settings: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **settings)


def splits(*patterns: str) -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]


PRE_TOKENIZERS = {
    "gpt2": byte_level(),
    "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
    "qwen2": pre_tokenizers.Sequence([*splits(QWEN2), byte_level(use_regex=False)]),
    "llama3": pre_tokenizers.Sequence([*splits(LLAMA3), byte_level(use_regex=False)]),
    "deepseek": pre_tokenizers.Sequence(
        [*splits(*DEEPSEEK), pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=False)]
    ),
    # a chain that has no single pattern: digits in threes from the left, then the words
    "unknown": pre_tokenizers.Sequence([*splits(r"\p{N}{1,3}", QWEN2), byte_level(use_regex=False)]),
}


@functools.cache
def trained(pre_tokenizer: str, first: tuple[str, ...] = ()) -> str:
    """tokenizer.json of a byte-level BPE; `first` are sentinels with the lowest ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(first),
        show_progress=False,
    )
    tokenizer.train_from_iterator((source.read_text(encoding="utf-8") for source in SOURCES), trainer)
    return tokenizer.to_str()


def build(family: str) -> dict[str, Any]:
    """The tokenizer.json of a family, in the way its checkpoints have it."""
    if family == "codellama":
        return sentencepiece()
    if family == "gpt2":
        return added(json.loads(trained("gpt2")), "<|endoftext|>")
    if family in ("starcoder", "mellum"):
        return json.loads(trained("starcoder", STARCODER))
    if family == "starcoder2":
        return json.loads(trained("starcoder", (*STARCODER, "<repo_name>", "<file_sep>")))
    if family == "smollm":
        return json.loads(trained("starcoder", ("<|endoftext|>", "<repo_name>", "<file_sep>", "<filename>")))
    if family == "qwen2":
        document = added(json.loads(trained("qwen2")), "<|endoftext|>", "<|im_end|>")
        sentinels = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>")
        return added(document, *sentinels, special=False) | {"normalizer": {"type": "NFC"}}
    if family == "llama3":
        document = json.loads(trained("llama3"))
        document["model"]["ignore_merges"] = True
        return with_begin(added(document, "<|begin_of_text|>", "<|end_of_text|>"), "<|begin_of_text|>")
    if family == "deepseek":
        document = json.loads(trained("deepseek"))
        # bytes that no text holds are missing from the vocabulary and come back as added words
        words = "ÀÁõö÷øùúûüýþÿ"
        vocabulary = sorted(document["model"]["vocab"].items(), key=lambda item: item[1])
        kept = [piece for piece, _ in vocabulary if piece not in words]
        document["model"]["vocab"] = {piece: token for token, piece in enumerate(kept)}
        document = added(document, *words, special=False)
        begin, end = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
        sentinels = ("<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>")
        return with_begin(added(document, begin, end, *sentinels), begin)
    return added(json.loads(trained(family)), "<|endoftext|>")


def added(document: dict[str, Any], *names: str, special: bool = True) -> dict[str, Any]:
    """With further added tokens after all others."""
    first = 1 + max([*document["model"]["vocab"].values(), *(token["id"] for token in document["added_tokens"])])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    tokens = [{"id": first + i, "content": name} | flags for i, name in enumerate(names)]
    return document | {"added_tokens": [*document["added_tokens"], *tokens]}


def with_begin(document: dict[str, Any], begin: str) -> dict[str, Any]:
    token = next(token["id"] for token in document["added_tokens"] if token["content"] == begin)
    template = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, token)])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.post_processor = template
    return document | {"post_processor": json.loads(tokenizer.to_str())["post_processor"]}


@functools.cache
def _sentencepiece() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>", "</s>", *fallback], show_progress=False
    )
    # line by line, for SentencePiece knows no line breaks
    lines = (line for source in SOURCES for line in source.read_text(encoding="utf-8").split("\n"))
    tokenizer.train_from_iterator((piece for line in lines for piece in line.split(" ")), trainer)
    return tokenizer.to_str()


def sentencepiece() -> dict[str, Any]:
    document = json.loads(_sentencepiece())
    document["added_tokens"] = document["added_tokens"][:3]  # the bytes are part of the vocabulary only
    return with_begin(added(document, "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"), "<s>")
