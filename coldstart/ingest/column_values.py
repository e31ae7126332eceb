"""Test by the values of a column what it may hold: ids, titles, prices, dates, media. Knows no names of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from coldstart.core.items import EXTENSIONS
from coldstart.core.values import parse_list
from coldstart.ingest.dates import date_format_of
from coldstart.media.guard import IMAGE_FORMATS, VIDEO_FORMATS, format_of

_LONGEST_ID, _LONG_TEXT = 64, 120
_AFTER_FIRST, _BEHIND_PATH = re.compile(r"[|;,\n]\s*"), re.compile(r"[?#].*")


def share(values: Sequence[Any], test: Callable[[Any], bool]) -> float:
    """Compute the share of values that pass a test, 0 for none."""
    return sum(1 for value in values if test(value)) / len(values) if values else 0.0


def any_value(values: Sequence[Any], rows: int) -> bool:
    """Return True where there are values, or no rows to have some."""
    return bool(values) or not rows


def is_id(values: Sequence[Any], rows: int) -> bool:
    """Return True for plain short values that most rows have."""
    plain = all(not isinstance(value, bytes | Mapping | list | bool) and len(str(value)) <= 1024 for value in values)
    return plain and len(values) >= 0.9 * rows


def is_text(values: Sequence[Any], rows: int) -> bool:
    """Return True for values with text among them."""
    return bool(values) and any(isinstance(value, str | list | Mapping) and str(value).strip() for value in values)


def is_words(values: Sequence[Any], rows: int) -> bool:
    """Return True for texts of which half are more than numbers."""
    return share(values, lambda value: any(letter.isalpha() for letter in str(value))) >= 0.5


def is_priced(values: Sequence[Any], rows: int) -> bool:
    """Return True for values of which half hold digits, such as prices."""

    def digits(value: Any) -> bool:
        if isinstance(value, list):
            return bool(value) and digits(value[0])
        if isinstance(value, str):
            return len(value) < 40 and any(letter.isdigit() for letter in value)
        return isinstance(value, int | float | Decimal) and not isinstance(value, bool)

    return share(values, digits) >= 0.5


def is_time(values: Sequence[Any], rows: int) -> bool:
    """Return True for dates of one format."""
    given = [value for value in values if not isinstance(value, datetime | date)]
    return bool(values) and (not given or date_format_of(given) is not None)


def is_kind(values: Sequence[Any], rows: int) -> bool:
    """Return True for the kinds of items."""
    return bool(values) and all(str(value).strip().lower() in ("video", "product") for value in values)


def is_object(values: Sequence[Any], rows: int) -> bool:
    """Return True for JSON objects."""
    return share(values, lambda v: isinstance(v, Mapping) or (isinstance(v, str) and v.strip().startswith("{"))) >= 0.8


def is_currency(values: Sequence[Any], rows: int) -> bool:
    """Return True for codes and signs of currencies."""
    return share(values, lambda value: isinstance(value, str) and len(value.strip()) <= 4) >= 0.8


CHECKS: dict[str, Callable[[Sequence[Any], int], bool]] = {
    "item_id": is_id,
    "title": is_words,
    "description": is_text,
    "category": is_words,
    "creator": is_words,
    "price": is_priced,
    "created_at": is_time,
    "kind": is_kind,
    "attributes": is_object,
    "attributes.currency": is_currency,
}


def is_place(values: Sequence[Any]) -> bool:
    """Return True for values that may be media: paths, URLs, bytes, lists of them; numbers and words are none."""

    def place(value: Any) -> bool:
        if isinstance(value, bytes | Mapping):
            return True
        if isinstance(value, list):
            return bool(value) and place(value[0])
        return isinstance(value, str) and re.search(r"://|[/\\]|\.[A-Za-z0-9]{2,5}\b", value) is not None

    return not values or share(values, place) >= 0.5


def role_of(value: Any) -> str | None:
    """Return the role of a medium by its bytes or the end of its name, None for anything else."""
    if isinstance(value, bytes):
        found = format_of(value[:512])
        return "image" if found in IMAGE_FORMATS else "video" if found in VIDEO_FORMATS else None
    if isinstance(value, dict):
        inner = value.get("bytes")
        return role_of(inner) if isinstance(inner, bytes) else role_of(value.get("path"))
    if isinstance(value, list):
        return role_of(value[0]) if value else None
    if not isinstance(value, str) or "." not in value:
        return None
    listed = parse_list(value)
    if listed:
        return role_of(listed[0])
    first = _AFTER_FIRST.split(value.strip(), maxsplit=1)[0]
    return EXTENSIONS.get(_BEHIND_PATH.sub("", first).rpartition(".")[2].lower())


def is_unique(values: Sequence[Any], rows: int) -> bool:
    """Return True for short values, each once, that all rows have."""
    if len(values) < rows or rows < 2 or not all(isinstance(value, str | int) for value in values):
        return False
    texts = [str(value) for value in values]
    short = all(len(text) <= _LONGEST_ID and " " not in text.strip() and "://" not in text for text in texts)
    return short and len({*texts}) == len(texts)


def are_distinct(values: Sequence[Any], rows: int) -> bool:
    """Return True for values, each once, that all rows have."""
    texts = {value if isinstance(value, str) else repr(value) for value in values}
    return len(values) == rows and len(texts) == len(values)


def is_long(values: Sequence[Any]) -> bool:
    """Return True for long texts, or HTML."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts or len(texts) < len(values):
        return False
    html = share(texts, lambda text: re.search(r"</?(p|br|ul|li|div|span|b|strong)\b", text) is not None) > 0.3
    return html or (sum(map(len, texts)) / len(texts) > _LONG_TEXT and share(texts, lambda text: " " in text) > 0.8)


def is_title(values: Sequence[Any]) -> bool:
    """Return True for short texts, nearly all distinct."""
    texts = [value for value in values if isinstance(value, str) and "://" not in value]
    if not texts or len(texts) < len(values):
        return False
    mean = sum(map(len, texts)) / len(texts)
    words = share(texts, lambda text: any(letter.isalpha() for letter in text)) > 0.9
    return words and 4 <= mean <= 200 and len({*texts}) >= 0.8 * len(texts) and share(texts, lambda t: " " in t) > 0.3


def has_currency(value: Any) -> bool:
    """Return True for a number with a currency."""
    return isinstance(value, str) and (
        re.fullmatch(
            r"(?:[€$£¥₽₺]|[A-Z]{3}\s?)\s*[\d.,' ]+|[\d.,' ]+\s*(?:[€$£¥₽₺]|[A-Z]{3}|zł|kr|Kč|руб\.?)", value.strip()
        )
        is not None
    )
