"""A checkpoint's tokenizer files -> our Tokenizer: tiktoken ranks where that gives the same ids, else `tokenizers`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from inference_service.model.fim import family_format
from inference_service.model.huggingface.ranks import merge_ranks
from inference_service.model.huggingface.split import GPT2_STEPS, QWEN2_STEPS, is_byte_level, split_pattern
from inference_service.model.location import BadModel
from inference_service.model.tokenizer import END_OF_TEXT, Scheme, Tokenizer

Json = dict[str, Any]

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")
_SENTINEL = re.compile(r"▁?<.+>")


def read_tokenizer(path: Path, config: Json) -> Tokenizer:
    """The tokenizer of the checkpoint directory `path`, whose config.json holds `config`.

    Raises BadModel when its files are missing, damaged, or of a kind that we cannot reproduce.
    """
    try:
        settings = _read(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
        document = _document(path, config["model_type"], settings)
        return _convert(path, document, settings, config)
    except BadModel:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"{path}: the tokenizer cannot be read ({type(error).__name__}: {error})") from error


def _convert(path: Path, document: Json, settings: Json, config: Json) -> Tokenizer:
    model, normalizer = document["model"], document.get("normalizer")
    if model["type"] != "BPE":
        raise BadModel(f"{path}: a tokenizer of type {model['type']} is not supported, only BPE is")
    added = document.get("added_tokens") or []
    # Others are words like any other: what somebody types must never become a token that steers the model.
    literals = [token for token in added if not (token["special"] or _SENTINEL.fullmatch(token["content"]))]
    # some tokenizers know sentinels that the model has no embedding for
    known = config.get("vocab_size", math.inf)
    sentinels = {token["content"]: token["id"] for token in added if token not in literals and token["id"] < known}
    sentinels |= _ends(path, sentinels, model["vocab"], settings, config)
    fim, begin = family_format(config["model_type"], sentinels).name, _begin(document, settings, sentinels)
    if not is_byte_level(document.get("pre_tokenizer")):
        return Tokenizer({}, Scheme(sentinels, fim, begin, library=_sentencepiece(path, document, literals)))
    pattern = split_pattern(document.get("pre_tokenizer"))
    nfc = normalizer == {"type": "NFC"}
    plain = not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in literals)
    if pattern and (_is_nothing(normalizer) or (nfc and not literals)) and plain:
        merged = merge_ranks(model, {*sentinels.values(), *(token["id"] for token in literals)})
        if merged:
            cut = {token["content"]: token["id"] for token in literals}
            ranks, ids = merged
            return Tokenizer(ranks, Scheme(sentinels, fim, begin, pattern, cut, nfc), ids)
    return Tokenizer({}, Scheme(sentinels, fim, begin, library=_library(document, literals)))


def _document(path: Path, family: str, settings: Json) -> Json:
    """tokenizer.json, or what it would say beside a vocab.json and merges.txt."""
    if (path / "tokenizer.json").is_file():
        return _read(path / "tokenizer.json")
    if family not in ("gpt2", "qwen2") or not (path / "vocab.json").is_file() or not (path / "merges.txt").is_file():
        raise BadModel(
            f"{path / 'tokenizer.json'} is missing: write it with transformers, "
            "AutoTokenizer.from_pretrained(PATH).save_pretrained(PATH)"
        )
    lines = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
    added = {int(token): entry for token, entry in settings.get("added_tokens_decoder", {}).items()}
    names = _read(path / "added_tokens.json") if (path / "added_tokens.json").is_file() else {}
    vocabulary = _read(path / "vocab.json")
    if END_OF_TEXT in vocabulary:
        names[END_OF_TEXT] = vocabulary[END_OF_TEXT]
    added |= {token: {"content": name, "special": True} for name, token in names.items() if token not in added}
    flags = {"special": False, "lstrip": False, "rstrip": False, "single_word": False}
    qwen2 = family == "qwen2"
    return {
        "version": "1.0",
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [line for line in lines if line and not line.startswith("#version")],
        },
        "normalizer": {"type": "NFC"} if qwen2 else None,
        "pre_tokenizer": QWEN2_STEPS if qwen2 else GPT2_STEPS,
        "added_tokens": [{**flags, **entry, "id": token} for token, entry in sorted(added.items())],
    }


def _ends(path: Path, sentinels: dict[str, int], vocabulary: dict[str, int], settings: Json, config: Json) -> Json:
    """The tokens that end a text, one of them as END_OF_TEXT."""
    ids = config.get("eos_token_id")
    ids = ids if isinstance(ids, list) else [ids]
    known = sentinels | {name: token for name, token in vocabulary.items() if _SENTINEL.fullmatch(name)}
    ends = {name: token for name, token in known.items() if token in ids}
    named = {**ends, **sentinels}.get(_content(settings.get("eos_token")))
    if END_OF_TEXT not in sentinels:
        first = named if named is not None else next(iter(ends.values()), None)
        if first is None:
            raise BadModel(f"{path}: neither config.json nor tokenizer_config.json names the token that ends a text")
        ends[END_OF_TEXT] = first
    return ends


def _begin(document: Json, settings: Json, sentinels: dict[str, int]) -> tuple[str, ...]:
    """The sentinels that every text begins with."""
    if "add_bos_token" in settings:
        names = [_content(settings.get("bos_token"))] if settings["add_bos_token"] else []
    else:
        steps = _processors(document.get("post_processor"))
        template: list[Json] = next((step["single"] for step in steps if step["type"] == "TemplateProcessing"), [])
        text = next((i for i, part in enumerate(template) if "Sequence" in part), 0)
        names = [part["SpecialToken"]["id"] for part in template[:text]]
    return tuple(name for name in names if name in sentinels)


def _sentencepiece(path: Path, document: Json, literals: list[Json]) -> str:
    """The document for the library, of a SentencePiece vocabulary; without the blank before every text, which a text
    that is put together from pieces does not have."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    normalizer, splitter = document.get("normalizer"), document.get("pre_tokenizer")
    steps = [step for step in _normalizers(normalizer) if step["type"] != "Prepend"]
    if document["model"].get("byte_fallback"):
        if steps == [replace] and splitter is None:
            return _library(document | {"normalizer": replace}, literals)
        if not steps and splitter and splitter["type"] == "Metaspace" and splitter["replacement"] == "▁":
            kept = {key: value for key, value in splitter.items() if key != "add_prefix_space"}
            return _library(document | {"pre_tokenizer": kept | {"prepend_scheme": "never"}}, literals)
    raise BadModel(f"{path}: its tokenizer is neither byte-level BPE nor SentencePiece BPE with bytes to fall back on")


def _library(document: Json, literals: list[Json]) -> str:
    # what is special there is plain text in what we encode
    added = [token | {"special": token not in literals} for token in document.get("added_tokens") or []]
    return json.dumps(document | {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None})


def _processors(step: Json | None) -> list[Json]:
    if not step:
        return []
    return step["processors"] if step["type"] == "Sequence" else [step]


def _normalizers(step: Json | None) -> list[Json]:
    if not step:
        return []
    return step["normalizers"] if step["type"] == "Sequence" else [step]


def _is_nothing(normalizer: Json | None) -> bool:
    return not _normalizers(normalizer)


def _content(token: str | Json | None) -> str:
    """Tokens are given by name or as an added token's description."""
    return token["content"] if isinstance(token, dict) else token or ""


def _read(path: Path) -> Json:
    parsed = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(parsed, dict):
        raise BadModel(f"{path} is damaged: copy it again")
    return parsed
