"""Streams arrive cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.sse import EventDecoder


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("a{ é😀\u2028\x85:"), min_size=1).map(str.strip), max_size=5),
    st.lists(st.integers(0, 200), max_size=10),
    st.sampled_from(["\n\n", "\r\n\r\n", "\n: a comment\nevent: x\n"]),
)
def test_payloads_do_not_depend_on_the_cuts(payloads: list[str], cuts: list[int], end: str) -> None:
    stream = "".join(f"data: {payload}{end}" for payload in payloads).encode()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = EventDecoder()
    got = [p for a, b in pairwise(places) for p in decoder.feed(stream[a:b])]
    assert got == payloads
