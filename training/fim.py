"""Training rows made on the fly: fill-in-the-middle, cross-file context, packing.

A row is a pure function of (seed, row number), so resuming, and any number of processes, see the same data.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

import numpy as np

from inference_service.model.fim import context_file, fim_head, fim_tail, plain_head
from inference_service.model.tokenizer import END_OF_TEXT, FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from training.middles import characters, rest_of_line, syntax_node, whole_lines
from training.neighbours import context_text
from training.shards import TokenDataset

_SHORTEST_SAMPLE = 64  # tokens; what is left of a row below that is cut from the next sample's beginning
_CHARS_A_TOKEN = 8  # more text than this is not even tokenized for a context
_KINDS = (rest_of_line, whole_lines, syntax_node, characters)


@dataclass(frozen=True, slots=True)
class FimConfig:
    """Every share is a probability from 0 to 1.

    Of the samples, `fim_rate` have a middle, `path_share` their path, and of these `context_share` a part of another
    file. A middle is the rest of a line, whole lines, a syntax node, or ends at any character (what is left of 1).
    `psm_share` of the middles come in prefix-suffix-middle order, which serving never asks for.
    """

    fim_rate: float = 0.5
    psm_share: float = 0.0
    line_end_share: float = 0.45
    whole_line_share: float = 0.15
    syntax_share: float = 0.15
    path_share: float = 0.7
    context_share: float = 0.25

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be from 0 to 1, not {value}")
        if self.line_end_share + self.whole_line_share + self.syntax_share > 1 + 1e-9:
            raise ValueError("line_end_share, whole_line_share and syntax_share must not exceed 1 together")


class RowSampler:
    """Builds rows of `length` token ids from a data set.

    Raises ValueError when the tokenizer's family knows no fill-in-the-middle and `config` asks for it.
    """

    def __init__(self, dataset: TokenDataset, tokenizer: Tokenizer, length: int, config: FimConfig, seed: int) -> None:
        self._dataset, self._tokenizer, self._length = dataset, tokenizer, length
        self._config, self._seed = config, seed
        if config.fim_rate and tokenizer.fim.infill is None:
            raise ValueError("this tokenizer has no tokens to fill in with: set fim_rate = 0 in the recipe's [fim]")
        lines_and_nodes = config.line_end_share, config.whole_line_share, config.syntax_share
        self._weights = [*lines_and_nodes, max(1 - sum(lines_and_nodes), 0.0)]
        self._end = tokenizer.sentinel(END_OF_TEXT)
        newline = [token for token, text in enumerate(tokenizer.vocabulary) if text.startswith((b"\n", b"\r\n"))]
        self._begins_line = np.zeros(tokenizer.vocab_size, dtype=bool)
        self._begins_line[newline] = True

    def row(self, number: int) -> list[int]:
        """Row `number`, as many token ids as were asked for: samples end to end, the last one cut."""
        choose = random.Random(f"{self._seed}-{number}")  # noqa: S311 - data order, not a secret
        row: list[int] = []
        while len(row) < self._length:
            row += self._sample(choose, max(self._length - len(row), _SHORTEST_SAMPLE))
        return row[: self._length]

    def _sample(self, choose: random.Random, budget: int) -> list[int]:
        document, offset = self._dataset.document_at(choose.randrange(self._dataset.total_tokens))
        path = self._dataset.path(document) if choose.random() < self._config.path_share else None
        context = self._context(choose, document, budget // 3) if path else []
        context = [*self._tokenizer.begin, *context]
        budget -= len(context)
        text, ends = self._window(document, offset, budget)
        if choose.random() < self._config.fim_rate:
            # the last line of a window is seldom whole, and a middle must not end where nothing ends
            whole = text if ends or "\n" not in text else text[: text.rindex("\n")]
            return context + self._fim(choose, whole, path, budget)
        tokens = plain_head(self._tokenizer, path) + self._tokenizer.encode(text)
        return context + tokens + ([self._end] if ends else [])

    def _window(self, document: int, position: int, budget: int) -> tuple[str, bool]:
        """Text of at most `budget` tokens that begins at a line, and whether it reaches the file's end."""
        tokens = self._dataset.document(document)
        begin = 0
        if len(tokens) > budget:
            line_begins = np.flatnonzero(self._begins_line[tokens[: position + 1]])
            begin = int(line_begins[-1]) if len(line_begins) else 0
        end = begin + budget
        return self._tokenizer.decode(tokens[begin:end].tolist()).lstrip("\r\n"), end >= len(tokens)

    def _context(self, choose: random.Random, document: int, budget: int) -> list[int]:
        """A part of another file of the package, at most `budget` tokens; often nothing."""
        if choose.random() >= self._config.context_share or budget < _SHORTEST_SAMPLE:
            return []
        found = context_text(choose, self._dataset, self._tokenizer, document, budget * _CHARS_A_TOKEN)
        return context_file(self._tokenizer, *found)[:budget] if found else []

    def _fim(self, choose: random.Random, text: str, path: str | None, budget: int) -> list[int]:
        encode, sentinel = self._tokenizer.encode, self._tokenizer.sentinel
        start, end = choose.choices(_KINDS, self._weights)[0](choose, text)
        suffix = encode(text[end:])[: choose.randrange(budget // 3 + 1)]
        head, tail = fim_head(self._tokenizer, path, suffix), fim_tail(self._tokenizer, path, suffix)
        if choose.random() < self._config.psm_share:
            head = [*([sentinel(FILE_SEP), *encode(path)] if path else []), sentinel(FIM_PREFIX)]
            tail = [sentinel(FIM_SUFFIX), *suffix, sentinel(FIM_MIDDLE)]
        room = max(budget - len(head) - len(tail) - 1, 1)
        if not tail:
            # Prefix and middle are tokenized as one text: where the cursor stands is not visible, serving heals the
            # token at the cursor instead.
            return [*head, *encode(text[:end])[-room:], self._end]
        middle = encode(text[start:end])[-room:]
        prefix = encode(text[:start])
        return [*head, *prefix[max(len(prefix) + len(middle) - room, 0) :], *tail, *middle, self._end]
