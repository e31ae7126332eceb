"""Parse whole columns of an interaction log: find the column of each field, and convert ids, numbers and times.

The rules of single values are those of `coldstart.core.values`; here they are applied to Arrow arrays at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.settings import nearest_or
from coldstart.core.values import (
    EXACT,
    MISSING,
    MISSING_AS_WRITTEN,
    MS_FROM,
    NS_FROM,
    ROUNDED,
    US_FROM,
    WHOLE_FLOAT,
    ZONE_SPELLINGS,
    is_basic_date,
    parse_time,
)
from coldstart.errors import ColdstartError
from coldstart.ingest.dates import ISO, date_format_of, parse_date
from coldstart.ingest.synonyms import normalise, ranks

_SAMPLE = 1000

FIELDS = ("user_id", "item_id", "timestamp", "event", "weight")

NEEDED = ("user_id", "item_id")

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Unit of a time -> microseconds."""

_LONGEST_ID = 1024

_OBVIOUS = {
    "user_id": {"userid", "user", "uid", "visitorid", "customerid", "memberid", "viewerid", "reviewerid"},
    "item_id": {"itemid", "item", "iid", "movieid", "productid", "videoid", "articleid", "contentid", "asin"},
    "timestamp": {"timestamp", "time", "ts", "datetime", "eventtime", "unixtime", "unixreviewtime"},
    "event": {"event", "eventtype", "action", "behavior", "behaviour"},
    "weight": {"weight", "rating", "stars", "overall"},
    "position": {"position", "pos", "rank", "slot"},
    "surface": {"surface", "placement", "page", "feed", "tab"},
    "propensity": {"propensity", "propensityscore", "pscore", "actionprob"},
    "request_id": {"requestid", "request", "reqid"},
    "outcome_at": {"outcomeat", "outcometime", "clicktime", "clickedat"},
    "value": {"value", "eventvalue"},
}
"""Names that decide a field if one column alone has one; where two have, the user has to choose."""
_LESS_PLAIN = {"timestamp": {"shownat", "servedat", "viewedat", "seenat", "exposedat", "impressiontime", "occurredat"}}
"""Names that decide a field where no column has one of the others."""
_GENERIC = frozenset(("id", "uid", "uuid", "guid", "key", "code", "ref", "reference", "handle", "symbol"))
"""Names of items that in a log more often number its rows."""
_OF_TEXTS = {"weight": frozenset(("note", "nota"))}
"""Names that in another language are those of texts."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_ZONED = r"[T ]\d\d[\d:.]*([zZ]|[+-]\d\d(:?\d\d)?)$"


Mask = NDArray[np.bool_]


def match_columns(
    header: Sequence[str],
    given: Mapping[str, str],
    place: str,
    fields: Sequence[str] = FIELDS,
    needed: Sequence[str] = NEEDED,
) -> tuple[dict[str, str], dict[str, str]]:
    """Match the file's columns to our fields: field -> column, and those of them that were guessed from names.

    Args:
        header: names of the file's columns.
        given: our field -> its column; an empty name says that the file has none.
        place: the file's name, for messages.
        fields: our fields; needed: those of them without which nothing is read.

    Raises:
        ColdstartError: a field or column of `given` does not exist, one that is needed was neither given nor
            recognised, or two columns may be it.
    """
    for field, column in given.items():
        if field not in fields:
            hint = nearest_or(field, fields, f"there is {', '.join(fields)}")
            raise ColdstartError(f"--columns {field}={column}: no field {field!r}; {hint}")
        if column and column not in header:
            hint = nearest_or(column, header, f"there is {', '.join(header)}")
            raise ColdstartError(f"--columns {field}={column}: {place} has no such column; {hint}")
    found = {field: column for field, column in given.items() if column}
    guessed: dict[str, str] = {}
    for field in fields:
        if field in given:
            continue
        same = [column for column in header if column == field]
        close = same or [
            column
            for column in header
            if re.sub(r"[^a-z]", "", column.lower()) in _OBVIOUS[field] and column not in found.values()
        ]
        close = close or _by_synonym(field, [column for column in header if column not in found.values()])
        close = close or [
            column for column in header if re.sub(r"[^a-z]", "", column.lower()) in _LESS_PLAIN.get(field, ())
        ]
        if len(close) > 1:
            either = " or ".join(close)
            raise ColdstartError(f"{place}: {field} may be {either}; say which with --columns {field}={close[0]}")
        if close:
            found[field] = close[0]
            if not same:
                guessed[field] = close[0]
    for field in needed:
        if not found.get(field):
            raise ColdstartError(
                f"{place}: no column is known as {field}; it has {', '.join(header)}; "
                f"name one with --columns {field}=COLUMN"
            )
    return {field: found[field] for field in fields if field in found}, guessed


def _by_synonym(field: str, header: Sequence[str]) -> list[str]:
    """Find the column whose name is the most usual of a field's, in the languages of the field."""
    known = ranks(field) if field in FIELDS else {}
    names = {column: normalise(column) for column in header}
    fitting = [column for column in header if names[column] in known and names[column] not in _OF_TEXTS.get(field, ())]
    return sorted(fitting, key=lambda column: (names[column] in _GENERIC, known[names[column]]))[:1]


def flags(values: Any) -> Mask:
    """Convert an Arrow array of truth values, null for false."""
    found: Mask = values.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def encode_ids(values: pa.Array) -> pa.DictionaryArray:
    """Encode ids so that each spelling is checked once.

    Raises:
        ColdstartError: values that have no text, such as lists.
    """
    if pa.types.is_nested(values.type):
        parse_texts(values)  # which refuses them
    return values if pa.types.is_dictionary(values.type) else values.dictionary_encode()


def are_whole(names: pa.Array) -> bool | None:
    """Return True if all texts are whole numbers with ".0", None where all are missing; no number is a text."""
    if pa.types.is_floating(names.type) or pa.types.is_integer(names.type) or pa.types.is_decimal(names.type):
        return False
    texts = without_missing(parse_texts(names)[0]).drop_null()
    return pc.all(pc.match_substring_regex(texts, WHOLE_FLOAT)).as_py() if len(texts) else None


def parse_ids(coded: pa.DictionaryArray, whole: bool = False) -> tuple[pa.Array, Mask, Mask]:
    """Parse ids: their texts, null where missing; which are not UTF-8, and which no id can be, bool [N] each.

    Args:
        whole: of texts that are whole numbers with ".0" that is left out.
    """
    names, broken = parse_texts(coded.dictionary)
    names = without_missing(names)
    if whole:
        names = pc.replace_substring_regex(names, r"^(-?\d+)\.0$", r"\1")
    odd = flags(pc.greater(pc.utf8_length(names), _LONGEST_ID)) | flags(
        pc.match_substring_regex(names, rf"[\r\n\x00]|{ROUNDED}")
    )
    places = coded.indices
    there = ~places.is_null().to_numpy(zero_copy_only=False)
    if not len(names):
        return pa.nulls(len(coded), pa.string()), np.zeros(len(coded), bool), np.zeros(len(coded), bool)
    own = places.fill_null(0).to_numpy()
    return names.take(places), broken[own] & there, odd[own] & there


def without_missing(texts: pa.Array) -> pa.Array:
    """Replace texts that stand for a missing value, such as NULL or nan, by null."""
    missing = pc.or_(
        pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING))),
        pc.is_in(texts, value_set=pa.array(sorted(MISSING_AS_WRITTEN))),
    )
    return pc.if_else(missing, None, texts)


def parse_texts(values: pa.Array) -> tuple[pa.Array, Mask]:
    """Parse values as trimmed text, null if empty or missing; mark invalid UTF-8, bool [N]. Whole floats lose ".0".

    Raises:
        ColdstartError: values that have no text, such as lists.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        known = pc.if_else(pc.is_finite(values), values, None)
        whole = pc.and_(pc.equal(pc.floor(known), known), pc.less(pc.abs(known), float(EXACT)))
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
    if pa.types.is_decimal(values.type):
        found = pc.replace_substring_regex(found, r"\.0+$", "")
    trimmed = pc.utf8_trim_whitespace(found)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed), broken


def _decodable(value: bytes | None) -> bool:
    try:
        return value is None or value.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def parse_numbers(values: pa.Array) -> tuple[NDArray[np.float64], Mask]:
    """Parse values as numbers, NaN if they are none, and mark missing ones, bool [N]."""
    texts = None
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        parsed = values.cast(pa.float64(), safe=False)
    else:
        try:
            parsed = values.cast(pa.string()).cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            texts = without_missing(parse_texts(values)[0])
            texts = pc.replace_substring_regex(texts, r"^([+-]?\d+),(\d{1,2})$", r"\1.\2")
            parsed = pc.if_else(pc.match_substring_regex(texts, _NUMBER), texts, None).cast(pa.float64())
    found = np.array(parsed.fill_null(np.nan).to_numpy(zero_copy_only=False))
    # what Arrow reads as NaN is the word for a missing number
    missing = np.isnan(found) if texts is None else texts.is_null().to_numpy(zero_copy_only=False)
    return found, missing


_TRUE, _FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")


def parse_signals(values: pa.Array) -> tuple[NDArray[np.float32], Mask]:
    """Parse outcomes such as clicks or seconds: float32 [N], NaN where there is none; mark those that are no number,
    bool [N]. Truth values, and words for them, are 1 and 0."""
    if pa.types.is_boolean(values.type):
        return np.array(values.cast(pa.float32()).fill_null(np.nan).to_numpy(zero_copy_only=False)), np.zeros(
            len(values), bool
        )
    found, missing = parse_numbers(values)
    odd = np.isnan(found) & ~missing
    if odd.any():
        words = pc.utf8_lower(parse_texts(values)[0])
        for value, known in ((1.0, _TRUE), (0.0, _FALSE)):
            found[odd & flags(pc.is_in(words, value_set=pa.array(known)))] = value
    with np.errstate(over="ignore"):
        narrow = found.astype(np.float32)
    return narrow, ~(np.isfinite(narrow) | missing)


def detect_time_unit(values: pa.Array) -> str:
    """Detect the unit of times: `iso` for text, dates such as 20240105 and time types, else `s` to `ns` by size."""
    if pa.types.is_temporal(values.type):
        return "iso"
    found, missing = parse_numbers(values)
    known = np.abs(found[np.isfinite(found)])
    if len(known) * 2 < np.count_nonzero(~missing) or not len(known):
        return "iso"
    middle = float(np.median(known))
    if all(is_basic_date(f"{number:.0f}") for number in known[:_SAMPLE]):
        return "iso"
    return "s" if middle < MS_FROM else "ms" if middle < US_FROM else "us" if middle < NS_FROM else "ns"


def are_doubtful(micros: NDArray[np.int64]) -> Mask:
    """Mark seconds since 1970 (in microseconds) that are more likely dates without dashes, or days of a spreadsheet."""
    mask: Mask = ((micros > 0) & (micros < 10**11)) | ((micros >= 19 * 10**12) & (micros < 22 * 10**12))
    return mask


def date_form(values: pa.Array) -> str:
    """Find how times in texts are written, such as `%d.%m.%Y`; "" for ISO 8601, and where nothing fits most of them."""
    texts = without_missing(parse_texts(values.slice(0, _SAMPLE))[0]).drop_null().to_pylist()
    form = date_format_of(texts)
    return "" if form in (None, ISO) else str(form)


def parse_times(values: pa.Array, unit: str) -> tuple[NDArray[np.int64], Mask]:
    """Parse times to microseconds since 1970 in UTC, int64 [N]; mark no time, missing or before 1970, bool [N].

    Args:
        unit: `s`, `ms`, `us`, `ns` for numbers; `iso` for ISO 8601, in UTC where no zone is given; or one of
            `date_form`.
    """
    if pa.types.is_temporal(values.type):
        if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
            raise ColdstartError(f"a column of {values.type} has no dates: name another with --columns")
        zone = getattr(values.type, "tz", None)
        days = pa.types.is_date32(values.type)
        counts = values.cast(pa.int32() if days else pa.int64()).fill_null(0).cast(pa.int64())
        most = 2**62 // (86_400_000_000 if days else UNITS.get(getattr(values.type, "unit", "ms"), 1))
        near = pc.less(counts, most)  # of later ones Arrow makes other times
        parsed = pc.if_else(near, values, None).cast(pa.timestamp("us", zone), safe=False)
    elif unit == "iso":
        parsed = _iso(without_missing(parse_texts(values)[0]))
    elif unit not in (*UNITS, "ns"):
        coded = without_missing(parse_texts(values)[0]).dictionary_encode()
        known = [_one(text, unit) for text in coded.dictionary.to_pylist()]
        parsed = pa.array(known, pa.timestamp("us", "UTC")).take(coded.indices)
    else:
        found, _ = parse_numbers(values)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = found * UNITS[unit] if unit in UNITS else found / 1000
            bad = ~((scaled >= 0) & (scaled < 2**62))
        return np.where(bad, 0, scaled).round().astype(np.int64), bad
    micros = parsed.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.maximum(micros, 0), micros < 0


def _iso(values: pa.Array) -> pa.Array:
    """Parse times in texts as `coldstart.core.values` does: timestamps [us, UTC], null if a text is no time."""
    try:
        return _plain_iso(values)
    except pa.ArrowInvalid:  # zones in other spellings, or some text is no time
        for spelling, iso in ZONE_SPELLINGS:
            values = pc.replace_substring_regex(values, spelling, iso)
    try:
        return _plain_iso(values)
    except pa.ArrowInvalid:  # parsed one by one, each spelling once
        coded = values.dictionary_encode()
        known = pa.array([_one(text) for text in coded.dictionary.to_pylist()], pa.timestamp("us", "UTC"))
        return known.take(coded.indices)


def _plain_iso(values: pa.Array) -> pa.Array:
    """Parse ISO 8601 alone.

    Raises:
        pa.ArrowInvalid: some text is something else.
    """
    zoned = pc.match_substring_regex(values, _ZONED)
    with_zone = pc.if_else(zoned, values, None).cast(pa.timestamp("us", "UTC"))
    without = pc.if_else(zoned, None, values).cast(pa.timestamp("us"))
    return pc.coalesce(with_zone, without.cast(pa.timestamp("us", "UTC")))


def _one(text: str, form: str = ISO) -> datetime | None:
    try:
        return parse_time(text) if form == ISO else parse_date(text, form)
    except (ValueError, OverflowError):
        return None
