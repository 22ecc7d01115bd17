"""The type-through cache: what it gives back is always exactly what remains of what was shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.cache import Cached, TypeThroughCache

CODE = st.text(st.sampled_from("ab(\n é"), max_size=12)


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@settings(max_examples=200, deadline=None)
@given(CODE, CODE, CODE.filter(bool), CODE)
def test_remainder_continues_what_is_typed(prefix: str, suffix: str, text: str, typed: str) -> None:
    cache = TypeThroughCache(Clock())
    cache.put("u", prefix, suffix, Cached("id", text))
    hit = cache.get("u", prefix + typed, suffix)
    if text.startswith(typed) and typed != text:
        assert hit is not None
        assert typed + hit.text == text
    else:
        assert hit is None


@settings(max_examples=100, deadline=None)
@given(CODE, CODE, CODE.filter(bool), CODE, CODE)
def test_other_surroundings_never_hit(prefix: str, suffix: str, text: str, prefix2: str, suffix2: str) -> None:
    cache = TypeThroughCache(Clock())
    cache.put("u", prefix, suffix, Cached("id", text))
    if suffix2 != suffix or not prefix2.startswith(prefix):
        assert cache.get("u", prefix2, suffix2) is None
    assert cache.get("other", prefix, suffix) is None


def test_entry_nearest_to_the_cursor_wins() -> None:
    cache = TypeThroughCache(Clock())
    cache.put("u", "x", "", Cached("new", "yz2"))
    cache.put("u", "", "", Cached("old", "xyz1"))
    assert cache.get("u", "xy", "") == Cached("new", "z2", typed=1)


def test_entries_expire_and_the_least_recently_used_goes_first() -> None:
    clock = Clock()
    cache = TypeThroughCache(clock, capacity=2, ttl_s=300)
    for name in "abc":
        cache.put("u", name, "", Cached(name, "text"))
        cache.get("u", "a", "")
    assert cache.get("u", "b", "") is None
    assert cache.get("u", "a", "") is not None
    clock.now = 301
    assert cache.get("u", "a", "") is None


def test_that_there_is_nothing_is_known_at_that_place_only() -> None:
    cache = TypeThroughCache(Clock())
    cache.put("u", "x", "", Cached("id", "", reason="the model had nothing to add"))
    hit = cache.get("u", "x", "")
    assert hit is not None and hit.reason
    assert cache.get("u", "xy", "") is None


def test_lone_surrogate_is_just_text() -> None:
    cache = TypeThroughCache(Clock())
    cache.put("u", "\ud800", "", Cached("id", "ab"))
    assert cache.get("u", "\ud800a", "") == Cached("id", "b", typed=1)
