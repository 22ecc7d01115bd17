"""How alike two lines are."""

from __future__ import annotations


def within(one: str, other: str, most: int) -> bool:
    """Whether the Levenshtein distance is at most `most` (Wagner and Fischer 1974).

    Of each row only what lies within `most` of the diagonal is computed: nothing else can lead to a yes (Ukkonen 1985).
    """
    if abs(len(one) - len(other)) > most:
        return False
    row = [min(j, most + 1) for j in range(len(other) + 1)]
    for i, char in enumerate(one, 1):
        low, high = max(1, i - most), min(len(other), i + most)
        before, row[low - 1] = row[low - 1], min(i, most + 1)
        for j in range(low, high + 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (char != other[j - 1]))
        if min(row[low - 1 : high + 1]) > most:
            return False
    return row[-1] <= most
