"""Our tokenizer as a tokenizer.json of Hugging Face's library `tokenizers`, with the same ids.

Ranks say only what is merged to, `tokenizers` wants the pairs that are merged: a token's pair is what its bytes come
to by the merges before it.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from inference_service.model.bpe import byte_of_character
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer

Pair = tuple[bytes, bytes]


def merges(ranks: dict[bytes, int]) -> list[Pair]:
    """The pairs that make the tokens of more than one byte, in the order of ranks.

    Raises ValueError on ranks that no BPE training makes: a token that its own bytes do not come to.
    """
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    return [_pair(token, rank, ranks) for token, rank in by_rank if len(token) > 1]


def _pair(token: bytes, rank: int, ranks: dict[bytes, int]) -> Pair:
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
        first = min(range(len(joined)), key=joined.__getitem__)
        if joined[first] >= rank:
            raise ValueError(f"token {token!r} of rank {rank} is no merge of two tokens before it")
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts[0], parts[1]


def printable(token: bytes) -> str:
    """A token in GPT-2's printable alphabet, as vocab.json has it."""
    return "".join(_CHARACTERS[byte] for byte in token)


_CHARACTERS = {byte: character for character, byte in byte_of_character().items()}


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the sentinels under one name each: the end of another family's text is also END_OF_TEXT in ours."""
    names = tokenizer.scheme.sentinels
    alias = [name for name, token in names.items() if token == names[END_OF_TEXT]] != [END_OF_TEXT]
    return {name: token for name, token in names.items() if not (alias and name == END_OF_TEXT)}


def document(tokenizer: Tokenizer) -> str:
    """The text of tokenizer.json. Sentinels are special tokens there, and so is their text wherever it stands."""
    scheme = tokenizer.scheme
    if scheme.library:
        return scheme.library
    ids = {printable(tokenizer.vocabulary[token]): token for token in _ordinary(tokenizer)}
    special = [_added(name, token, special=True) for name, token in special_tokens(tokenizer).items()]
    literal = [_added(name, token, special=False) for name, token in scheme.literals.items()]
    split = {"type": "Split", "pattern": {"Regex": scheme.pattern}, "behavior": "Isolated", "invert": False}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    parts: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted([*special, *literal], key=lambda token: token["id"]),
        "normalizer": {"type": "NFC"} if scheme.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, to_bytes]},
        "post_processor": None,
        "decoder": to_bytes,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {**ids, **special_tokens(tokenizer), **scheme.literals},
            "merges": [[printable(left), printable(right)] for left, right in merges(tokenizer.ranks)],
        },
    }
    return json.dumps(parts, ensure_ascii=False)


def _ordinary(tokenizer: Tokenizer) -> list[int]:
    """The ids of what BPE makes."""
    literals = set(tokenizer.scheme.literals.values())
    return [token for token, text in enumerate(tokenizer.vocabulary) if text and token not in literals]


def _added(name: str, token: int, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token, "content": name, "special": special, **flags}
