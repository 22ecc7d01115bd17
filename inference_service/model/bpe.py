"""Byte-level BPE: by tiktoken where a vocabulary and its split pattern can be told to it, else by `tokenizers`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import regex
import tiktoken

from inference_service.model.location import BadModel

# SentencePiece vocabularies have no pre-tokenizer: nearly all of their tokens begin with the space before a word.
_SENTENCEPIECE_WORDS = r" *[^ \n]+|\n| +"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TiktokenBPE:
    """Merges in the order of `ranks`; `ids` maps a rank to its token where they differ.

    `literals` are tokens that are cut out of a text before it is split, longest first. `nfc` texts are normalised.
    """

    def __init__(
        self, ranks: dict[bytes, int], pattern: str, ids: list[int] | None, literals: Mapping[str, int], nfc: bool
    ) -> None:
        self._encoding = tiktoken.Encoding("midfill", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._split = regex.compile(pattern)
        self._ids, self._literals, self._nfc = ids, literals, nfc
        longest_first = sorted(literals, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if literals else None
        tokens = {ids[rank] if ids else rank: text for text, rank in ranks.items()}
        tokens |= {token: text.encode() for text, token in literals.items()}
        self.vocabulary = [tokens.get(token, b"") for token in range(max(tokens) + 1)]

    def encode(self, text: str) -> list[int]:
        if self._nfc:
            text = unicodedata.normalize("NFC", text)
        # lone surrogates cannot be UTF-8; tiktoken replaces them the same way, by a slower path
        if self._cut is None:
            ranks = self._encoding.encode_ordinary(text)
            return ranks if self._ids is None else [self._ids[rank] for rank in ranks]
        tokens: list[int] = []
        for piece in self._cut.split(text):
            if piece in self._literals:
                tokens.append(self._literals[piece])
            elif piece:
                ranks = self._encoding.encode_ordinary(piece)
                tokens += ranks if self._ids is None else [self._ids[rank] for rank in ranks]
        return tokens

    def words(self, text: str) -> list[str]:
        return self._split.findall(text)


class LibraryBPE:
    """What Hugging Face's `tokenizers` makes of a tokenizer.json. Raises BadModel where that is not installed."""

    def __init__(self, document: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise BadModel("this tokenizer needs the library `tokenizers`: install midfill[train]") from error
        self._document = document
        self._tokenizer = Tokenizer.from_str(document)
        self._tokenizer.encode_special_tokens = True  # as plain text
        parsed = json.loads(document)
        byte_level = not parsed["model"].get("byte_fallback")
        self._words = None if byte_level else re.compile(_SENTENCEPIECE_WORDS)
        literals = {token["content"]: token["id"] for token in parsed["added_tokens"] if not token["special"]}
        tokens = _token_bytes(parsed["model"]["vocab"], byte_level) | {
            token: text.encode() for text, token in literals.items()
        }
        self.vocabulary = [tokens.get(token, b"") for token in range(max(tokens) + 1)]

    def __reduce__(self) -> tuple[type[LibraryBPE], tuple[str]]:
        return LibraryBPE, (self._document,)  # for the library's own copy forgets `encode_special_tokens`

    def encode(self, text: str) -> list[int]:
        if not text.isascii():  # a lone surrogate cannot be UTF-8
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def words(self, text: str) -> list[str]:
        if self._words is not None:
            return self._words.findall(text)
        return [text[start:stop] for _, (start, stop) in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def byte_of_character() -> dict[str, int]:
    """Which byte a character of GPT-2's printable alphabet stands for (Radford et al. 2019, encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def _token_bytes(vocabulary: dict[str, Any], byte_level: bool) -> dict[int, bytes]:
    if not byte_level:
        return {token: _sentencepiece_bytes(piece) for piece, token in vocabulary.items()}
    alphabet = byte_of_character()
    known = {token: piece for piece, token in vocabulary.items() if alphabet.keys() >= set(piece)}
    return {token: bytes(alphabet[c] for c in piece) for token, piece in known.items()}


def _sentencepiece_bytes(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()
