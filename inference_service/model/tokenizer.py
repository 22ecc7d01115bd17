"""Byte-level BPE as a tiktoken encoding, with the sentinels of fill-in-the-middle."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

import regex
import tiktoken

END_OF_TEXT = "<|endoftext|>"
FIM_PREFIX = "<fim_prefix>"
FIM_SUFFIX = "<fim_suffix>"
FIM_MIDDLE = "<fim_middle>"
FILE_SEP = "<file_sep>"
SENTINELS = (END_OF_TEXT, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FILE_SEP)

# A line break takes the next line's indentation with it, so that "\n        " is one token and a token that
# holds a line break always begins with one. Words take one leading space or sign (".append", "(self").
SPLIT_PATTERN = (
    r"(?:\r?\n)+[ \t]*|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[ \t]+(?=\r?\n)|[^\S\r\n]+(?=\S)|\s+"
)


class Tokenizer:
    """Text <-> token ids. Sentinels in text are plain text; only `sentinel()` yields their ids."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        first = len(ranks)
        self._sentinels = {name: first + i for i, name in enumerate(SENTINELS)}
        self._encoding = tiktoken.Encoding(
            "midfill", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens=self._sentinels
        )
        self._split = regex.compile(SPLIT_PATTERN)
        self._ranks = ranks
        self.vocab_size = first + len(SENTINELS)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read tiktoken ranks: one `base64(token) rank` a line. Raises ValueError on anything else."""
        ranks = {}
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a tiktoken rank ({error})") from error
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise ValueError(f"{path}: ranks are not 0..{len(ranks) - 1}")
        return cls(ranks)

    def save(self, path: Path) -> None:
        lines = (
            base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(self._ranks.items(), key=lambda i: i[1])
        )
        path.write_bytes(b"".join(lines))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over tokens in rank order and sentinels: equal digests mean equal ids."""
        digest = hashlib.sha256()
        for token in (
            *sorted(self._ranks, key=self._ranks.__getitem__),
            *(name.encode() for name in SENTINELS),
        ):
            digest.update(len(token).to_bytes(2, "big") + token)
        return digest.hexdigest()

    def sentinel(self, name: str) -> int:
        return self._sentinels[name]

    def is_sentinel(self, token: int) -> bool:
        return token >= len(self._ranks)

    def encode(self, text: str) -> list[int]:
        # lone surrogates cannot be UTF-8; tiktoken replaces them the same way, by a slower path
        return self._encoding.encode_ordinary(text)

    def decode(self, tokens: list[int]) -> str:
        """Text of ordinary tokens; invalid UTF-8 becomes U+FFFD."""
        return self._encoding.decode(tokens)

    def words(self, text: str) -> list[str]:
        """The pieces that BPE never merges across."""
        return self._split.findall(text)

    def token_bytes(self, token: int) -> bytes:
        return self._encoding.decode_single_token_bytes(token)

    @functools.cached_property
    def vocabulary(self) -> list[bytes]:
        """Bytes of every ordinary token by id."""
        return sorted(self._ranks, key=self._ranks.__getitem__)
