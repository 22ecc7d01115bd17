"""The distance of two lines, against all of its matrix."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lsp_server.postprocess.distance import within

LINE = st.text(st.sampled_from("ab "), max_size=12)


def distance(one: str, other: str) -> int:
    rows = [list(range(len(other) + 1))]
    for i, char in enumerate(one, 1):
        rows.append([i])
        for j, counterpart in enumerate(other, 1):
            rows[i].append(min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (char != counterpart)))
    return rows[-1][-1]


@given(LINE, LINE, st.integers(0, 13))
def test_within_is_what_the_whole_matrix_says(one: str, other: str, most: int) -> None:
    assert within(one, other, most) == (distance(one, other) <= most)
