"""Cursors of pages: the place where the next one begins, in one publication and under one query."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from coldstart.core.keys import digest
from coldstart.errors import ColdstartError

MOST_PLACE = 10_000_000
"""Place that a cursor may stand for, at most."""


def query_mark(parts: Sequence[Any]) -> str:
    """Digest what a query asks, so that a cursor of another one is refused."""
    return digest([None if part is None else str(part) for part in parts])[:12]


def make_cursor(start: int, tag: str, mark: str) -> str:
    """Write the place of the next page, for one query and one publication."""
    return base64.urlsafe_b64encode(json.dumps([start, tag, mark]).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, tag: str, mark: str) -> int:
    """Read the place that a cursor stands for.

    Raises:
        ColdstartError: it is none, or of another query or publication.
    """
    if cursor is None:
        return 0
    try:
        start, of_tag, of_mark = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        start = int(start)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ColdstartError(
            f"cursor {cursor[:40]!r}: give the `next_cursor` of the answer before", kind="usage"
        ) from None
    if of_mark != mark or not 0 <= start <= MOST_PLACE:
        raise ColdstartError(
            "cursor: it is of another query: give the same conditions as for the first page", kind="usage"
        )
    if of_tag != tag:
        raise ColdstartError(
            f"cursor: it is of publication {of_tag}, and {tag} is served now: begin with the first page", kind="usage"
        )
    return start
