"""Rate limits and the circuit breaker against a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from coldstart.generators._chat_client import LONGEST_PAUSE_S, CircuitBreaker, RateLimiter, backoff_s


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_are_spaced_evenly() -> None:
    limiter = RateLimiter(30, None, Clock())
    assert [limiter.reserve(1_000_000) for _ in range(4)] == [0, 2, 4, 6]


def test_tokens_of_the_last_request_delay_the_next() -> None:
    clock = Clock()
    limiter = RateLimiter(None, 600, clock)
    assert limiter.reserve(50) == 0
    assert limiter.reserve(10) == 5
    clock.now = 30
    assert limiter.reserve(10) == 0


def test_the_stricter_limit_counts() -> None:
    limiter = RateLimiter(60, 600, Clock())
    assert [limiter.reserve(1), limiter.reserve(100), limiter.reserve(1)] == [0, 1, 11]


def test_without_limits_nobody_waits_until_the_endpoint_asks_for_it() -> None:
    clock = Clock()
    limiter = RateLimiter(None, None, clock)
    assert limiter.reserve(10**9) == 0
    limiter.pause(7)
    limiter.pause(3)
    assert limiter.reserve(1) == 7
    clock.now = 8
    assert limiter.reserve(1) == 0


def test_an_endpoint_is_given_up_when_it_failed_for_too_long_without_one_answer() -> None:
    clock = Clock()
    breaker = CircuitBreaker(10, clock)
    breaker.record_failure()
    clock.now = 9
    assert not breaker.is_open()
    breaker.record_success()
    breaker.record_failure()
    clock.now = 18
    assert not breaker.is_open()
    clock.now = 19
    assert breaker.is_open()
    breaker.record_success()
    assert not breaker.is_open()


def test_a_request_has_no_more_patience_than_is_left_for_the_endpoint() -> None:
    clock = Clock()
    breaker = CircuitBreaker(10, clock)
    assert breaker.record_failure() == 0
    clock.now = 6
    assert breaker.seconds_left(breaker.record_failure()) == 4
    breaker.record_success()
    assert breaker.seconds_left(6) == 10


def test_pauses_grow_with_jitter_to_a_limit() -> None:
    for attempt, longest in enumerate([0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S]):
        pauses = {backoff_s(attempt, None) for _ in range(50)}
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest
        assert len(pauses) > 40
    assert backoff_s(5000, None) <= LONGEST_PAUSE_S


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("0.25", 0.25), ("-5", 0.0)])
def test_the_endpoint_says_how_long(header: str, seconds: float) -> None:
    assert backoff_s(0, header) == seconds


def test_the_endpoint_says_until_when() -> None:
    assert 58 < backoff_s(0, format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    assert backoff_s(0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("header", ["soon", "", "nan", "inf"])
def test_a_header_that_says_nothing_leaves_it_to_the_back_off(header: str) -> None:
    assert 0.25 <= backoff_s(0, header) <= 0.5
