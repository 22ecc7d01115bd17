"""How alike two lines are."""

from __future__ import annotations


def within(one: str, other: str, most: int) -> bool:
    """Whether the Levenshtein distance is at most `most` (Wagner and Fischer 1974)."""
    if abs(len(one) - len(other)) > most:
        return False
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, counterpart in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (char != counterpart))
        if min(row) > most:
            return False
    return row[-1] <= most
