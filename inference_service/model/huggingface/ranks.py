"""The vocabulary and merges of a byte-level BPE -> tiktoken ranks.

tiktoken merges any two neighbours that together are a token, the lowest rank first; Hugging Face's BPE merges only
listed pairs, in the order of their list. Both give the same ids when every token has one place in that order and comes
out of its own bytes by the merges before it; vocabularies that BPE training made are so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from inference_service.model.bpe import byte_of_character

_NEVER = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))  # bytes that no UTF-8 text holds


def merge_ranks(model: dict[str, Any], others: Collection[int]) -> tuple[dict[bytes, int], list[int] | None] | None:
    """Ranks by token and, where they differ, ids by rank; None when tiktoken would not give the same ids.

    `model` is that of a tokenizer.json, `others` are the ids of tokens that are no part of the merging.
    """
    if any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")):
        return None
    alphabet = byte_of_character()
    vocabulary: dict[str, int] = {piece: token for piece, token in model["vocab"].items() if token not in others}
    order = sorted((piece for piece in vocabulary if piece in alphabet), key=vocabulary.__getitem__)
    if {alphabet[piece] for piece in order} | _NEVER < set(range(256)):
        return None
    rank = {piece: i for i, piece in enumerate(order)}
    halves: list[tuple[int, int] | None] = [None] * len(order)  # by rank, of what is merged
    pairs: dict[tuple[int, int], int] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        piece = left + right
        if left not in rank or right not in rank or piece not in vocabulary:
            return None
        if piece not in rank:
            rank[piece] = len(order)
            order.append(piece)
            halves.append(None)
        elif order[-1] != piece:  # merged at two places of the order
            return None
        pair = rank[left], rank[right]
        pairs[pair] = rank[piece]
        if _border_holds(pair, pairs, halves):
            halves[rank[piece]] = pair
    if None in halves[len(alphabet.keys() & rank.keys()) :]:  # its own bytes are merged into something else
        return None
    if model.get("ignore_merges") and len(rank) < len(vocabulary):  # whole words that no merge leads to
        return None
    ids = [vocabulary[piece] for piece in order]
    ranks = {bytes(alphabet[character] for character in piece): i for piece, i in rank.items()}
    return ranks, None if ids == list(range(len(ids))) else ids


def _border_holds(
    pair: tuple[int, int], pairs: dict[tuple[int, int], int], halves: list[tuple[int, int] | None]
) -> bool:
    """Whether no merge before that of `pair` joins something on its left with something on its right.

    The two are taken apart again, what was merged last first (`is_valid_token_pair` of GitHub's `bpe` crate).
    """
    left, right = pair
    before = pairs[pair]
    while True:
        if pairs.get((left, right), before) < before:
            return False
        if left > right:
            before, parts = left, halves[left]
            if parts is None:
                return True
            left = parts[1]
        else:  # of two equal ones the left is merged first
            before, parts = right + 1, halves[right]
            if parts is None:
                return True
            right = parts[0]
