"""Text <-> token ids: byte-level BPE with the sentinels of fill-in-the-middle, Midfill's own or another family's."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from inference_service.model.bpe import LibraryBPE, TiktokenBPE
from inference_service.model.fim import FORMATS, SPM2

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


@dataclass(frozen=True)
class Scheme:
    """What a tokenizer is beside its ranks.

    sentinels: ids by name; END_OF_TEXT is always one of them.
    fim: the name of its `fim.FimFormat`.
    begin: names of the sentinels that every prompt begins with.
    pattern: the regular expression whose matches are the pieces that merges stay in.
    literals: tokens that are cut out of a text before anything else.
    nfc: texts are normalised to Unicode's composed form first.
    library: instead of ranks, a tokenizer.json for the library `tokenizers`.
    """

    sentinels: Mapping[str, int]
    fim: str
    begin: tuple[str, ...] = ()
    pattern: str = ""
    literals: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    library: str = ""


class Tokenizer:
    """Text <-> token ids. Sentinels in text are plain text; only `sentinel()` yields their ids.

    `ranks` are tokens by the order in which they are merged. Without a `scheme` it is Midfill's own, whose ids are the
    ranks and after them SENTINELS. `ids` maps a rank to its token where they differ.
    """

    def __init__(self, ranks: dict[bytes, int], scheme: Scheme | None = None, ids: list[int] | None = None) -> None:
        self._own = scheme is None
        own = {name: len(ranks) + i for i, name in enumerate(SENTINELS)}
        scheme = scheme or Scheme(own, SPM2.name, pattern=SPLIT_PATTERN)
        self.ranks, self.ids, self.scheme = ranks, ids, scheme
        self._bpe = (
            LibraryBPE(scheme.library)
            if scheme.library
            else TiktokenBPE(ranks, scheme.pattern, ids, scheme.literals, scheme.nfc)
        )
        taken = set(scheme.sentinels.values())
        # bytes of every ordinary token by id, nothing where an id has none
        self.vocabulary = [b"" if token in taken else text for token, text in enumerate(self._bpe.vocabulary)]
        self.vocab_size = max(len(self.vocabulary), max(taken) + 1)
        self.fim = FORMATS[scheme.fim]
        self.begin = [scheme.sentinels[name] for name in scheme.begin]

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read tiktoken ranks: one `base64(token) rank` a line. Raises ValueError on anything else.

        A tokenizer that is not Midfill's own has its Scheme as JSON in the first line, and a third column with the
        tokens where those are not the ranks.
        """
        lines = path.read_bytes().splitlines()
        scheme, first = None, 1
        if lines and lines[0].startswith(b"{"):
            try:
                scheme, first = Scheme(**json.loads(lines.pop(0))), 2
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line 1: not a tokenizer's description ({error})") from error
        ranks: dict[bytes, int] = {}
        ids: list[int] = []
        for number, line in enumerate(lines, start=first):
            try:
                token, rank, *other = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
                ids += map(int, other)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a tiktoken rank ({error})") from error
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise ValueError(f"{path}: ranks are not 0..{len(ranks) - 1}")
        if ids and len(ids) != len(ranks):
            raise ValueError(f"{path}: some ranks have a token and some do not")
        try:
            return cls(ranks, scheme, ids or None)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, line 1: not a tokenizer's description ({error})") from error

    def save(self, path: Path) -> None:
        path.write_bytes(self._dump())

    def _dump(self) -> bytes:
        lines = [] if self._own else [json.dumps(asdict(self.scheme), sort_keys=True).encode() + b"\n"]
        for token, rank in sorted(self.ranks.items(), key=lambda item: item[1]):
            other = b" %d" % self.ids[rank] if self.ids else b""
            lines.append(base64.b64encode(token) + b" %d" % rank + other + b"\n")
        return b"".join(lines)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over tokens in rank order and sentinels: equal digests mean equal ids."""
        if not self._own:
            return hashlib.sha256(self._dump()).hexdigest()
        digest = hashlib.sha256()
        for token in (*self.vocabulary, *(name.encode() for name in SENTINELS)):
            digest.update(len(token).to_bytes(2, "big") + token)
        return digest.hexdigest()

    def sentinel(self, name: str) -> int:
        """Raises ValueError when the tokenizer has no such sentinel."""
        try:
            return self.scheme.sentinels[name]
        except KeyError:
            raise ValueError(f"the tokenizer has no token {name}") from None

    def is_sentinel(self, token: int) -> bool:
        """Whether a token has no text: sentinels, and ids that a model has beyond its tokenizer's."""
        return token >= len(self.vocabulary) or not self.vocabulary[token]

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode(text)

    def decode(self, tokens: list[int]) -> str:
        """Text of ordinary tokens; invalid UTF-8 becomes U+FFFD."""
        return b"".join(self.vocabulary[token] for token in tokens).decode("utf-8", "replace")

    def words(self, text: str) -> list[str]:
        """The pieces that BPE never merges across."""
        return self._bpe.words(text)

    def token_bytes(self, token: int) -> bytes:
        """What an ordinary token stands for."""
        return self.vocabulary[token]
