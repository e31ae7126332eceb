"""Parse one value of a table: an id, a time, a list; one rule for manifests, interactions and query files.

A value that may mean two things is refused; what databases and programs write for a missing value counts as absent.
Knows no files, tables or columns.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

MISSING = frozenset({"", "nan", "null", "none", "n/a", "#n/a", "<na>", "undefined"})
"""Texts that stand for no value, whatever their case; `MISSING_AS_WRITTEN`: as they are written here alone."""
MISSING_AS_WRITTEN = frozenset({"NA", r"\N"})
_MISSING_TEXTS = frozenset({"", "NULL", r"\N", "nan", "NaN"})

WHOLE_FLOAT = r"^-?\d+\.0$"
"""Pattern of a whole number that a program wrote as a float, such as 101.0."""

ROUNDED = r"^-?\d(?:\.\d+)?[eE]\+\d+$"
"""Pattern of a large number whose last digits a program left out, such as 4.00638E+12."""

EXACT = 2**53
"""Size from which a float no longer holds every whole number."""

_LOST = "a number that has lost its last digits: write ids as text or as whole numbers"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")


def is_missing(value: Any) -> bool:
    """Return True for a value that stands for none where an id, a number or a time is due, such as NaN or NULL."""
    if isinstance(value, str):
        text = value.strip()
        return text.casefold() in MISSING or text in MISSING_AS_WRITTEN
    return value is None or _is_nan(value)


def is_missing_text(value: Any) -> bool:
    """Return True for a value that stands for none where words are due; "None" and "NA" may be words, NULL is none."""
    if isinstance(value, str):
        return value.strip() in _MISSING_TEXTS
    return value is None or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | Decimal) and math.isnan(value)


def parse_id(value: Any) -> str | None:
    """Parse an id to its text, None where it is missing; whole floats and decimals lose their decimals: 101.0 is 101.

    Raises:
        ValueError: a number that is no exact id: infinite, or a float so large that its last digits are lost.
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        if re.match(ROUNDED, value.strip()):
            raise ValueError(_LOST)
        return value.strip()
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ValueError("an infinite number is no id")
        if (isinstance(value, float) and abs(value) >= EXACT) or (isinstance(value, Decimal) and value.adjusted() > 40):
            raise ValueError(_LOST)
        return str(int(value)) if value == int(value) else str(value)
    return str(value)


def are_whole_floats(values: Iterable[Any]) -> bool:
    """Return True if every text that is not missing is a whole number with ".0", as of a column that had gaps."""
    found = [value.strip() for value in values if isinstance(value, str) and not is_missing(value)]
    return bool(found) and all(re.match(WHOLE_FLOAT, value) for value in found)


# ---- times

MS_FROM, US_FROM, NS_FROM = 2e10, 1e14, 1e17
"""Sizes from which a number since 1970 is in milliseconds, microseconds and nanoseconds; below, it is in seconds."""

_BASIC_DATE = re.compile(r"((?:19|20|21)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])((?:[01]\d|2[0-3])(?:[0-5]\d){2})?")
ZONE_SPELLINGS = (
    (r"(?i)(:\d\d[\d:.]*)(?:\s*[+-]00:?00)?\s*(?:UTC|GMT|Z)$", r"\1Z"),
    (r"(:\d\d[\d:.]*)\s+([+-]\d\d(?::?\d\d)?)$", r"\1\2"),
)
"""Patterns of zones behind a time, and their spelling in ISO 8601; understood by `re` and by Arrow."""
_MONTH = re.compile(r"(?:19|20|21)\d\d(?:0[1-9]|1[0-2])")
_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def is_basic_date(text: str) -> bool:
    """Return True for a date without dashes, such as 20240105 or 20240105123000, which is no number of seconds."""
    return _BASIC_DATE.fullmatch(text) is not None


def is_number(value: Any) -> bool:
    """Return True for a number or the text of one."""
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def parse_time(value: Any) -> datetime:
    """Parse a time, in UTC where it states no zone: ISO 8601, also as 20240105, or a number since 1970.

    A number is in seconds, milliseconds, microseconds or nanoseconds by its size. `UTC` and `GMT` behind a time are a
    zone.

    Raises:
        ValueError: no time, or a number that more likely is the day of a spreadsheet, a year or a month.
    """
    if not isinstance(value, str):
        return _to_utc(_time_of_number(value) if is_number(value) else _checked(value))
    text = value.strip()
    if text[4:5] != "-" and is_number(text):
        return _to_utc(_time_of_number(Decimal(text) if "." in text else int(text[:40])))
    found = _iso(text)
    if found is None:
        for spelling, iso in ZONE_SPELLINGS:
            text = re.sub(spelling, iso, text)
        found = _iso(text) or _checked(text)
    return _to_utc(found)


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _checked(value: Any) -> datetime:
    try:
        return _DATETIME.validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


def unix_seconds(at: datetime) -> int:
    """Convert a time to whole seconds since 1970; one without a zone is in UTC."""
    return math.floor((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _to_utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is not between the years 1 and 9999") from None


def _time_of_number(number: int | float | Decimal) -> datetime:
    try:
        size = float(number)
    except OverflowError:
        size = math.inf
    digits = f"{size:.0f}"
    if size.is_integer() and is_basic_date(digits):
        return datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}" if digits[8:] else digits)
    if fault := doubtful_number(size):
        raise ValueError(fault)
    if US_FROM <= abs(size) < 1e21:
        return _checked(size / (1_000_000 if abs(size) < NS_FROM else 1_000_000_000))
    return _checked(size if isinstance(number, Decimal) or not math.isfinite(size) else number)


def doubtful_number(number: float) -> str:
    """Explain why a number is not taken for seconds since 1970, "" where it is."""
    digits = f"{number:.0f}"
    if 1900 <= number < 2200:
        return f"a year alone: write {digits}-01-01"
    if _MONTH.fullmatch(digits):
        return f"a month alone: write {digits[:4]}-{digits[4:]}-01"
    if 19_000_000 <= number < 22_000_000 and not is_basic_date(digits):
        return f"no date: month {digits[4:6]}, day {digits[6:]}"
    if 20_000 <= number < 80_000:
        day = datetime.fromtimestamp((int(number) - 25_569) * 86_400, UTC).date()
        return f"no seconds since 1970; if it is the day of a spreadsheet, write {day}"
    if 0 < number < 100_000:
        return "no seconds since 1970: write ISO 8601, such as 2024-01-05"
    return ""


# ---- lists in one cell

_LONGEST_LIST = 100_000
"""Characters: Python's own parser of lists is not made for texts of strangers of any length."""


def parse_list(text: str) -> list[Any] | None:
    """Parse the text of a list, as JSON or Python write it; None for any other text."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST_LIST:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):  # of Python's parser, on an odd escape
                found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def delimiter_of(text: str, usual: str = ",") -> str:
    """Find what separates the columns of a table: the one of , ; tab | that its header has most often unquoted."""
    header = re.split(r"[\r\n]", re.sub(r'"[^"]*"', "", text.lstrip("\r\n")), maxsplit=1)[0]
    marks: list[str] = [usual, *",;\t|"]
    return max(marks, key=header.count)


def split_tags(text: str) -> list[Any]:
    """Split a cell of several words: a list, or a text with | or, where it has none, commas between them."""
    found = parse_list(text)
    return found if found is not None else text.split("|" if "|" in text else ",")


def split_media(text: str, exists: Callable[[str], bool]) -> list[Any]:
    """Split a cell of several media: a list, or a text with |, lines, ; or commas between them, URLs by spaces, too.

    The name of a file that exists is one medium whatever its letters; URLs part only where the next one begins.
    """
    if not re.search(r"[\[|,;\n]|\shttps?://", text) or exists(text):
        return [text]
    found = parse_list(text)
    if found is not None:
        return found
    if "://" in text:
        return re.split(r"\s*[|,;\n]\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)|\s+(?=https?://)", text)
    mark = next(one for one in "|\n;,[" if one in text)
    return [part.strip() for part in text.split(mark)] if mark != "[" else [text]
