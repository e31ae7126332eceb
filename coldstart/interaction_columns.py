"""Which column of a file of interactions is what, and how its values become ids, times and weights. Knows no formats.

Values are converted by whole columns; the few that cannot be are marked, never guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

FIELDS = ("user_id", "item_id", "timestamp", "event", "weight")
NEEDED = ("user_id", "item_id")
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Unit of a time -> microseconds."""

_OBVIOUS = {
    "user_id": {"userid", "user", "uid", "visitorid", "customerid", "memberid", "viewerid", "reviewerid"},
    "item_id": {"itemid", "item", "iid", "movieid", "productid", "videoid", "articleid", "contentid", "asin"},
    "timestamp": {"timestamp", "time", "ts", "datetime", "eventtime", "unixtime", "unixreviewtime"},
    "event": {"event", "eventtype", "action", "behavior", "behaviour"},
    "weight": {"weight", "rating", "stars", "overall"},
}
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_ZONED = r"[T ]\d\d[\d:.]*([zZ]|[+-]\d\d(:?\d\d)?)$"
_FROM_MS, _FROM_US, _FROM_NS = 1e11, 1e14, 1e17

Mask = NDArray[np.bool_]


def columns_of(header: Sequence[str], given: Mapping[str, str], place: str) -> tuple[dict[str, str], dict[str, str]]:
    """The file's column of each of our fields, and which of these were guessed from their names.

    Args:
        header: names of the file's columns.
        given: our field -> its column; an empty name says that the file has none.
        place: the file's name, for messages.

    Raises:
        ColdstartError: a field or column of `given` does not exist, one that is needed was neither given nor
            recognised, or two columns may be it.
    """
    for field, column in given.items():
        if field not in FIELDS:
            raise ColdstartError(f"--columns {field}={column}: no field {field!r}; {_nearest(field, FIELDS)}")
        if column and column not in header:
            raise ColdstartError(f"--columns {field}={column}: {place} has no such column; {_nearest(column, header)}")
    found = {field: column for field, column in given.items() if column}
    guessed: dict[str, str] = {}
    for field in FIELDS:
        if field in given:
            continue
        same = [column for column in header if column == field]
        close = same or [
            column
            for column in header
            if re.sub(r"[^a-z]", "", column.lower()) in _OBVIOUS[field] and column not in found.values()
        ]
        if len(close) > 1:
            either = " or ".join(close)
            raise ColdstartError(f"{place}: {field} may be {either}; say which with --columns {field}={close[0]}")
        if close:
            found[field] = close[0]
            if not same:
                guessed[field] = close[0]
    for field in NEEDED:
        if not found.get(field):
            raise ColdstartError(
                f"{place}: no column is known as {field}; it has {', '.join(header)}; "
                f"name one with --columns {field}=COLUMN"
            )
    return {field: found[field] for field in FIELDS if field in found}, guessed


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)}"


def texts(values: pa.Array) -> tuple[pa.Array, Mask]:
    """Values as trimmed text, null where empty or missing; and which are not UTF-8, bool [N]. Whole floats lose ".0".

    Raises:
        ColdstartError: values that have no text, such as lists.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        known = pc.if_else(pc.is_finite(values), values, None)
        whole = pc.equal(pc.floor(known), known)
        integers = pc.if_else(whole, known, None).cast(pa.int64(), safe=False).cast(pa.string())
        return pc.coalesce(integers, known.cast(pa.string())), np.zeros(len(values), bool)
    broken = np.zeros(len(values), bool)
    try:
        found = values.cast(pa.string())
    except pa.ArrowNotImplementedError as error:
        raise ColdstartError(f"a column of {values.type} is no text: name another with --columns") from error
    except pa.ArrowInvalid:  # of bytes that are not UTF-8
        broken = np.array([not _decodable(value) for value in values.to_pylist()], bool)
        found = pc.if_else(pa.array(~broken), values, None).cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(found)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed), broken


def _decodable(value: bytes | None) -> bool:
    try:
        return value is None or value.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def numbers(values: pa.Array) -> tuple[NDArray[np.float64], Mask]:
    """Values as numbers, NaN where they are none, and which are missing, bool [N]."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        parsed = values.cast(pa.float64(), safe=False)
    else:
        try:
            parsed = values.cast(pa.string()).cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values, _ = texts(values)
            right = pc.match_substring_regex(values, _NUMBER)
            parsed = pc.if_else(right, values, None).cast(pa.float64())
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.array(parsed.fill_null(np.nan).to_numpy(zero_copy_only=False)), missing


def unit_of(values: pa.Array) -> str:
    """`iso` for times in words or of a type of their own; else `s`, `ms`, `us` or `ns` by the size of the numbers."""
    if pa.types.is_temporal(values.type):
        return "iso"
    found, missing = numbers(values)
    known = np.abs(found[np.isfinite(found)])
    if len(known) * 2 < np.count_nonzero(~missing) or not len(known):
        return "iso"
    middle = float(np.median(known))
    return "s" if middle < _FROM_MS else "ms" if middle < _FROM_US else "us" if middle < _FROM_NS else "ns"


def times(values: pa.Array, unit: str) -> tuple[NDArray[np.int64], Mask]:
    """Microseconds since 1970 in UTC, int64 [N]; and which are no time, missing or before 1970, bool [N].

    Args:
        unit: `s`, `ms`, `us`, `ns` for numbers; `iso` for ISO 8601, in UTC where no zone is given.
    """
    if pa.types.is_temporal(values.type):
        zone = getattr(values.type, "tz", None)
        parsed = values.cast(pa.timestamp("us", zone), safe=False)
    elif unit == "iso":
        parsed = _iso(texts(values)[0])
    else:
        found, _ = numbers(values)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = found * UNITS[unit] if unit in UNITS else found / 1000
            bad = ~((scaled >= 0) & (scaled < 2**62))
        return np.where(bad, 0, scaled).round().astype(np.int64), bad
    micros = parsed.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.maximum(micros, 0), micros < 0


def _iso(values: pa.Array) -> pa.Array:
    """Timestamps [us, UTC], null where a text is no time."""
    zoned = pc.match_substring_regex(values, _ZONED)
    try:
        with_zone = pc.if_else(zoned, values, None).cast(pa.timestamp("us", "UTC"))
        without = pc.if_else(zoned, None, values).cast(pa.timestamp("us"))
        return pc.coalesce(with_zone, without.cast(pa.timestamp("us", "UTC")))
    except pa.ArrowInvalid:  # some text is no time: they are told apart one by one, each spelling once
        coded = values.dictionary_encode()
        known = pa.array([_one(text) for text in coded.dictionary.to_pylist()], pa.timestamp("us", "UTC"))
        return known.take(coded.indices)


def _one(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
