"""Find the one format in which a column writes its dates, and parse them by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from coldstart.core.values import is_missing, parse_time

ISO, MAIL = "ISO 8601", "RFC 822"

_DATES = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%d.%m.%y",
    "%Y年%m月%d日",
    "%Y.%m.%d",
    "%d %b %Y",
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
_PEEKED = 10
_ENOUGH = 0.8
_SAMPLE = 1000


def date_format_of(values: Iterable[Any]) -> str | None:
    """Find the format of a column's dates: `ISO 8601` as `parse_time` reads it, `RFC 822`, or one of `strptime`.

    None where most values are no dates, or where day and month may change places in all of them.
    """
    texts = [value for value in values if not is_missing(value)][:_SAMPLE]
    if not texts:
        return None
    fitting = [form for form in (ISO, MAIL, *_forms(texts)) if _share(texts, form) >= _ENOUGH]
    if {"%d/%m/%Y", "%m/%d/%Y"} <= {form[:8] for form in fitting}:
        return None
    return fitting[0] if fitting else None


def parse_date(value: Any, form: str) -> datetime:
    """Parse a date by a format of `date_format_of`, in UTC where it states no zone.

    Raises:
        ValueError: it is no such date.
    """
    if form == ISO or not isinstance(value, str):
        return parse_time(value)
    text = value.strip()
    try:
        found = parsedate_to_datetime(text) if form == MAIL else datetime.strptime(text, form)
    except (TypeError, IndexError) as error:
        raise ValueError(f"not a date: {text[:60]!r}") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _forms(texts: Sequence[Any]) -> list[str]:
    slashed = ("%d/%m/%Y", "%m/%d/%Y")  # their share tells them apart
    forms = [f"{day}{time}" for time in _TIMES for day in _DATES]
    fitting = [form for form in forms if any(_fits(text, form) for text in texts[:_PEEKED])]
    return list(dict.fromkeys([*fitting, *(f"{day}{time}" for time in _TIMES for day in slashed)]))


def _share(texts: Sequence[Any], form: str) -> float:
    return sum(_fits(text, form) for text in texts) / len(texts)


def _fits(value: Any, form: str) -> bool:
    if form != ISO and not isinstance(value, str):
        return False
    if isinstance(value, str) and len(value) > 60:
        return False
    try:
        parse_date(value, form)
    except (ValueError, OverflowError):
        return False
    return True
