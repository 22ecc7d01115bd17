"""From a request to the tokens of its prompt, within the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_service.engine.request import CompletionRequest, ContextFile
from inference_service.model.fim import context_file, fim_head, fim_tail, plain_head
from inference_service.model.healing import split_for_healing
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer

SUFFIX_SHARE = 0.2
CONTEXT_SHARE = 0.3
CUT_STEP_CHARS = 4096  # likewise, before tokenizing
CHARS_A_TOKEN = 16  # more text than this cannot fit, unless it is all blanks: it is not even tokenized
CUT_STEP = 128  # tokens; the cut of a long prefix moves that far at once, so that the cached prompt stays valid


@dataclass(frozen=True, slots=True)
class Prompt:
    """`tokens` to prefill (at least one), then `typed` bytes that the first generated tokens have to spell."""

    tokens: list[int]
    typed: bytes


def build_prompt(request: CompletionRequest, tokenizer: Tokenizer, context_length: int) -> Prompt:
    """Context files, head, as much of the prefix as fits, and tail, in that order; where the suffix stands is the
    model's format.

    `max_tokens` is kept free. The shares of suffix and context are fixed, so neither moves while somebody types.
    """
    budget = context_length - min(request.max_tokens, context_length // 2)
    context = _context(request.context, tokenizer, int(budget * CONTEXT_SHARE))
    tail: list[int] = []
    if request.suffix is None:
        head = plain_head(tokenizer, request.path)
    else:
        suffix = tokenizer.encode(request.suffix[: CHARS_A_TOKEN * budget])[: int(budget * SUFFIX_SHARE)]
        head, tail = fim_head(tokenizer, request.path, suffix), fim_tail(tokenizer, request.path, suffix)
    prefix, typed = split_for_healing(tokenizer, tokenizer.encode(cut_text(request.prompt, context_length)))
    before = [*tokenizer.begin, *context, *head]
    prefix = cut_prefix(prefix, max(budget - len(before) - len(tail), CUT_STEP), tokenizer)
    return Prompt([*before, *prefix, *tail] or [tokenizer.sentinel(END_OF_TEXT)], typed)


def cut_text(prefix: str, context_length: int) -> str:
    """The end of `prefix` that is worth tokenizing, cut at a line in steps of CUT_STEP_CHARS."""
    too_long = len(prefix) - CHARS_A_TOKEN * context_length
    if too_long <= 0:
        return prefix
    cut = -(-too_long // CUT_STEP_CHARS) * CUT_STEP_CHARS
    line = prefix.find("\n", cut, cut + CUT_STEP_CHARS)
    return prefix[line if line >= 0 else cut :]


def cut_prefix(tokens: list[int], room: int, tokenizer: Tokenizer) -> list[int]:
    """The end of `tokens` that fits `room`, cut at a line in steps of CUT_STEP tokens."""
    if len(tokens) <= room:
        return tokens
    cut = -(-(len(tokens) - room) // CUT_STEP) * CUT_STEP
    for start in range(cut, min(cut + CUT_STEP, len(tokens))):
        if tokenizer.token_bytes(tokens[start]).startswith((b"\n", b"\r\n")):
            return tokens[start:]
    return tokens[min(cut, len(tokens) - 1) :]


def _context(files: Sequence[ContextFile], tokenizer: Tokenizer, room: int) -> list[int]:
    tokens: list[int] = []
    for file in files:
        piece = context_file(tokenizer, file.path, file.text[: CHARS_A_TOKEN * room])
        if len(tokens) + len(piece) > room:
            break  # a cut file would move with every edit of it; the rest is dropped whole
        tokens += piece
    return tokens
