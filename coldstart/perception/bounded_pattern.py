"""Regular expressions whose time is linear in the text: those that could take longer are refused when they are read.

Python's engine tries one way to match after another, and a careless pattern has exponentially many. Here every pattern
is taken apart and its ways to match from one place are counted, at most: a product over what stands in a row, a sum
over alternatives and over the turns of a repetition. Where nothing repeats without end that number is a constant, and
the time is at most the text's length times that constant times the pattern's length.
"""

from __future__ import annotations

import re
from functools import cache
from re import _constants, _parser  # type: ignore[attr-defined]  # how Python itself reads them; no public door
from typing import Any

MAX_WAYS = 2000
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
_ASSERTIONS = (_constants.ASSERT, _constants.ASSERT_NOT)
_SINGLE = (
    _constants.LITERAL,
    _constants.NOT_LITERAL,
    _constants.IN,
    _constants.ANY,
    _constants.AT,
    _constants.CATEGORY,
    _constants.FAILURE,
)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready for use.

    Raises:
        ValueError: it is no regular expression, matches the empty text, or may take more than linear time.
    """
    try:
        ways = _ways(_parser.parse(pattern))
        ready = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from error
    if ways > MAX_WAYS:
        raise ValueError(f"has more than {MAX_WAYS} ways to match from one place: shorten its repetitions")
    if ready.search(""):
        raise ValueError("matches the empty text, and so every text")
    return ready


def _ways(parsed: Any) -> int:
    """At most so many ways to match from one place, counted up to just over the limit."""
    found = 1
    for operation, given in parsed:
        found = min(found * _ways_of(operation, given), MAX_WAYS + 1)
    return found


def _ways_of(operation: Any, given: Any) -> int:
    if operation in _SINGLE:
        return 1
    if operation in _REPEATS:
        least, most, inner = given
        if most == _constants.MAXREPEAT:
            raise ValueError("repeats without end (*, + or {2,}): state the most, such as {0,20}")
        ways = _ways(inner)
        return sum(min(ways**turns, MAX_WAYS + 1) for turns in range(least, min(most, least + MAX_WAYS) + 1))
    if operation is _constants.BRANCH:
        return sum(_ways(branch) for branch in given[1])
    if operation is _constants.SUBPATTERN:
        return _ways(given[3])
    if operation is _constants.ATOMIC_GROUP:
        return _ways(given)
    if operation in _ASSERTIONS:
        return _ways(given[1])
    raise ValueError(f"refers to a group ({str(operation).lower()}): write out what it should match")
