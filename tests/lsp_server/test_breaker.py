"""How long a failing service is left alone."""

from __future__ import annotations

from lsp_server.breaker import CircuitBreaker
from tests.lsp_server.test_cache import Clock


def test_waits_double_up_to_half_a_minute_with_one_probe_each() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock, chance=lambda: 0.5)
    for _ in range(3):
        assert breaker.allow()
        breaker.failure()
    for wait in (1, 2, 4, 8, 16, 30, 30):
        clock.now += wait - 0.01
        assert not breaker.allow()
        assert 0 < breaker.wait_s <= 0.011
        clock.now += 0.02
        assert breaker.allow(), "one probe"
        assert not breaker.allow(), "and one only"
        breaker.failure()
    clock.now += 31
    assert breaker.allow()
    breaker.success()
    breaker.failure()
    assert breaker.allow(), "a success forgets what was before"


def test_cancelled_probe_lets_another_try() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    breaker.failure(retry_after_s=5)
    assert not breaker.allow()
    clock.now = 5
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()


def test_editors_do_not_come_back_all_at_once() -> None:
    waits = set()
    for _ in range(50):
        breaker = CircuitBreaker(Clock(), threshold=1)
        breaker.failure()
        waits.add(round(breaker.wait_s, 3))
    assert len(waits) > 10
    assert 0.75 <= min(waits) < max(waits) <= 1.25


def test_jitter_never_comes_back_earlier_than_the_service_asked() -> None:
    breaker = CircuitBreaker(Clock(), threshold=1, chance=lambda: 0.0)
    breaker.failure(retry_after_s=1.0)
    assert breaker.wait_s == 1.0


def test_absurd_retry_after_is_bounded() -> None:
    breaker = CircuitBreaker(Clock())
    breaker.failure(retry_after_s=86400)
    assert breaker.wait_s == 30
