"""When to send to an endpoint: its rate limits, how long to wait after a fault, and when to give it up.

Safe to use from several threads. Sends nothing and sleeps never.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0

Clock = Callable[[], float]


class Pace:
    """Turns of requests, evenly spaced so that no minute has more than its limits.

    Args:
        requests_per_minute, tokens_per_minute: None: no limit. Tokens are counted before they are written: prompt and
            the most that the answer may take, as endpoints themselves do.
        clock: seconds.
    """

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock = time.monotonic
    ) -> None:
        self._per_request_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock, self._lock = clock, threading.Lock()
        self._request_at = self._token_at = self._open_at = 0.0

    def turn(self, tokens: int) -> float:
        """Seconds to wait before sending a request of so many tokens; its place is taken."""
        with self._lock:
            now = self._clock()
            at = max(now, self._request_at, self._token_at, self._open_at)
            self._request_at, self._token_at = at + self._per_request_s, at + tokens * self._per_token_s
            return at - now

    def pause(self, seconds: float) -> None:
        """No turn before that: the endpoint asked for it."""
        with self._lock:
            self._open_at = max(self._open_at, self._clock() + seconds)


class Patience:
    """Whether an endpoint that fails is worth waiting for.

    Args:
        patience_s: how long it may fail without one answer in between.
        clock: seconds.
    """

    def __init__(self, patience_s: float, clock: Clock = time.monotonic) -> None:
        self.patience_s = patience_s
        self._clock = clock
        self._since: float | None = None

    def failed(self) -> float:
        """It failed; returns the present time."""
        now = self._clock()
        if self._since is None:
            self._since = now
        return now

    def answered(self) -> None:
        """It lives."""
        self._since = None

    def left(self, since: float) -> float:
        """Seconds of patience with something that fails since then; the endpoint's own failing counts where older."""
        began = self._since
        return self.patience_s - (self._clock() - (since if began is None else min(since, began)))

    def given_up(self) -> bool:
        """Whether it failed for too long."""
        since = self._since
        return since is not None and self._clock() - since >= self.patience_s


def pause_s(attempt: int, retry_after: str | None) -> float:
    """Seconds to wait after the fault of an attempt (0 is the first): what the endpoint asks for, else exponential
    back-off with jitter, so that clients do not come back all at once.

    Args:
        retry_after: the header of that name: seconds or a date.
    """
    asked = _asked_s(retry_after)
    if asked is not None:
        return asked
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


def _asked_s(header: str | None) -> float | None:
    if not header:
        return None
    with suppress(ValueError):
        seconds = float(header)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
