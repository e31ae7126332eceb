"""Read the user-item interaction log: a CSV, JSONL or Parquet file of any length, by whole columns, block by block.

Finds the column of each field by its name, and converts values to ids, times and weights. A row that cannot be read is
rejected with its number and a reason, and the rest go on; no value is guessed. Knows no formats.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.ingest.interaction_formats import FORMATS, KNOWN, RawBlock

SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)


REJECTED = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])


AHEAD_US = 86_400 * 1_000_000
"""Clocks may differ by a day before a time counts as future."""


_LONGEST_ID, _DETAIL = 1024, 200


@dataclass(frozen=True)
class Block:
    """Rows of one block of a file.

    Attributes:
        rows: the good ones, of `SCHEMA`; `event` is "" where a file has none.
        rejected: the others, of `REJECTED`: row number, reason, the value at fault.
    """

    rows: pa.RecordBatch
    rejected: pa.Table


class InteractionFile:
    """Open file of interactions: only its columns are read yet; iterating yields its blocks.

    Args:
        columns: our field (`user_id`, `item_id`, `timestamp`, `event`, `weight`) -> the file's column, "" for none;
            fields that are left out are recognised by name where that is plain.
        event_weights: event -> the weight of its rows, None for that of the weight column, or 1. Where given, a row
            with another event, or none, is rejected as `unknown_event`. By default all events weigh as the column says.
        time_unit: `s`, `ms`, `us`, `iso`, or `auto`: by the first block.
        now_us: microseconds since 1970 after which (and a day) a time is `future_time`.

    Attributes:
        columns: our field -> column, as found; without `timestamp` all times are 0, without `weight` all weights 1.
        guessed: those of them that were recognised by name.
        time_unit: as found, once the first block is read.

    Raises:
        ColdstartError: no such file, an unknown format, no rows, a fault of `match_columns`, events without a column.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_us: int,
        columns: Mapping[str, str] | None = None,
        event_weights: Mapping[str, float | None] | None = None,
        time_unit: str = "auto",
    ) -> None:
        if not path.is_file():
            raise ColdstartError(f"no file of interactions at {path}: give {KNOWN}")
        opener = FORMATS.get(path.suffix.lower())
        if opener is None:
            raise ColdstartError(f"unknown format {path.suffix or path.name!r} of {path}: give {KNOWN}")
        if time_unit not in (*UNITS, "iso", "auto"):
            raise ColdstartError(f"--time-unit {time_unit}: give s, ms, us, iso or auto")
        self.path, self.time_unit = path, time_unit
        self._now_us, self._event_weights = now_us, event_weights
        try:
            header, self._raw = opener(path)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ColdstartError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
        self.columns, self.guessed = match_columns(header, columns or {}, str(path))
        for column in self.columns.values():
            if header.count(column) > 1:
                raise ColdstartError(f"header of {path}: column {column!r} stands twice: rename one")
        if event_weights is not None and "event" not in self.columns:
            raise ColdstartError(
                f"--event-weights: {path} has no column of events; name it with --columns event=COLUMN"
            )

    def __iter__(self) -> Iterator[Block]:
        empty = True
        try:
            for raw in self._raw(sorted(set(self.columns.values()))):
                if len(raw.rows) or raw.broken:
                    empty = False
                    yield self._block(raw)
        except (pa.ArrowException, OSError) as error:
            raise ColdstartError(f"cannot read {self.path} further: {str(error).splitlines()[0]}") from error
        if empty:
            raise ColdstartError(f"{self.path} has no rows: give one interaction a row")

    def _block(self, raw: RawBlock) -> Block:
        count = len(raw.rows)
        empty, none = pa.repeat("", count), pa.nulls(count, pa.string())
        given = {field: raw.columns[column] for field, column in self.columns.items()}
        faults: dict[str, tuple[NDArray[np.bool_], pa.Array]] = {}
        ids: dict[str, pa.Array] = {}
        undecoded, odd = np.zeros(count, bool), np.zeros(count, bool)
        for name in ("user_id", "item_id", "event"):
            ids[name], broken, strange = _parse_ids(given[name]) if name in given else (empty, undecoded, odd)
            undecoded, odd = undecoded | broken, odd | strange
        faults["unreadable"] = undecoded, pa.array(["not UTF-8"] * count)
        for name, reason in (("user_id", "no_user"), ("item_id", "no_item")):
            faults[reason] = ids[name].is_null().to_numpy(zero_copy_only=False), none
        faults["bad_id"] = odd, pc.binary_join_element_wise(ids["user_id"], ids["item_id"], ", ")
        micros = np.zeros(count, np.int64)
        if "timestamp" in given:
            if self.time_unit == "auto":
                self.time_unit = detect_time_unit(given["timestamp"])
            micros, bad = parse_times(given["timestamp"], self.time_unit)
            faults["bad_time"] = bad, given["timestamp"]
            faults["future_time"] = micros > self._now_us + AHEAD_US, given["timestamp"]
        weights, bad = self._weights(given.get("weight"), ids["event"])
        if self._event_weights is not None:
            known = pa.array(list(self._event_weights), pa.string())
            faults["unknown_event"] = ~_flags(pc.is_in(ids["event"], value_set=known)), ids["event"]
        if "weight" in given:
            faults["bad_weight"] = bad, given["weight"]
        rejected, good = _rejected(raw, faults)
        rows = [ids["user_id"], ids["item_id"], pa.array(micros, SCHEMA.field("timestamp").type)]
        rows += [ids["event"].fill_null(""), pa.array(weights)]
        return Block(pa.record_batch(rows, schema=SCHEMA).filter(pa.array(good)), rejected)

    def _weights(self, column: pa.Array | None, events: pa.Array) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Compute the weight of each row, and mark rows whose weight is no number."""
        weights, missing = (
            (np.ones(len(events)), np.zeros(len(events), bool)) if column is None else parse_numbers(column)
        )
        weights[missing] = 1
        for event, weight in (self._event_weights or {}).items():
            if weight is not None:
                weights[_flags(pc.equal(events, event))] = weight
        with np.errstate(over="ignore"):
            found = weights.astype(np.float32)
        return found, ~np.isfinite(found)


def _parse_ids(values: pa.Array) -> tuple[pa.Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Parse ids: values as text, which of them are not UTF-8, and which no id can be; each spelling is checked once."""
    if pa.types.is_nested(values.type):
        values, _ = parse_texts(values)  # which says that they are no text
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    names, broken = parse_texts(coded.dictionary)
    odd = _flags(pc.greater(pc.utf8_length(names), _LONGEST_ID)) | _flags(
        pc.match_substring_regex(names, r"[\r\n\x00]")
    )
    places = coded.indices
    there = ~places.is_null().to_numpy(zero_copy_only=False)
    if not len(names):
        return pa.nulls(len(values), pa.string()), np.zeros(len(values), bool), np.zeros(len(values), bool)
    own = places.fill_null(0).to_numpy()
    return names.take(places), broken[own] & there, odd[own] & there


def _flags(values: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _rejected(
    raw: RawBlock, faults: Mapping[str, tuple[NDArray[np.bool_], pa.Array]]
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """List rejected rows, each with its first reason, in file order, and mark the good ones, bool [N]."""
    good = np.ones(len(raw.rows), bool)
    tables = [
        pa.table(
            [[row for row, _ in raw.broken], ["unreadable"] * len(raw.broken), [why for _, why in raw.broken]],
            schema=REJECTED,
        )
    ]
    for reason, (wrong, values) in faults.items():
        places = np.flatnonzero(wrong & good)
        good[places] = False
        if len(places):
            details, _ = parse_texts(values.take(pa.array(places)))
            cut = pc.utf8_slice_codeunits(details.fill_null(""), 0, _DETAIL)
            tables.append(pa.table([raw.rows[places], [reason] * len(places), cut], schema=REJECTED))
    return pa.concat_tables(tables).sort_by("row"), good


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


def match_columns(header: Sequence[str], given: Mapping[str, str], place: str) -> tuple[dict[str, str], dict[str, str]]:
    """Match the file's columns to our fields, and tell which of these were guessed from their names.

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


def parse_texts(values: pa.Array) -> tuple[pa.Array, Mask]:
    """Parse values as trimmed text, null if empty or missing; mark invalid UTF-8, bool [N]. Whole floats lose ".0".

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


def parse_numbers(values: pa.Array) -> tuple[NDArray[np.float64], Mask]:
    """Parse values as numbers, NaN if they are none, and mark missing ones, bool [N]."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        parsed = values.cast(pa.float64(), safe=False)
    else:
        try:
            parsed = values.cast(pa.string()).cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values, _ = parse_texts(values)
            right = pc.match_substring_regex(values, _NUMBER)
            parsed = pc.if_else(right, values, None).cast(pa.float64())
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.array(parsed.fill_null(np.nan).to_numpy(zero_copy_only=False)), missing


def detect_time_unit(values: pa.Array) -> str:
    """Detect the unit of times: `iso` for text or a time type, else `s`, `ms`, `us` or `ns` by size."""
    if pa.types.is_temporal(values.type):
        return "iso"
    found, missing = parse_numbers(values)
    known = np.abs(found[np.isfinite(found)])
    if len(known) * 2 < np.count_nonzero(~missing) or not len(known):
        return "iso"
    middle = float(np.median(known))
    return "s" if middle < _FROM_MS else "ms" if middle < _FROM_US else "us" if middle < _FROM_NS else "ns"


def parse_times(values: pa.Array, unit: str) -> tuple[NDArray[np.int64], Mask]:
    """Parse times to microseconds since 1970 in UTC, int64 [N]; mark no time, missing or before 1970, bool [N].

    Args:
        unit: `s`, `ms`, `us`, `ns` for numbers; `iso` for ISO 8601, in UTC where no zone is given.
    """
    if pa.types.is_temporal(values.type):
        zone = getattr(values.type, "tz", None)
        parsed = values.cast(pa.timestamp("us", zone), safe=False)
    elif unit == "iso":
        parsed = _iso(parse_texts(values)[0])
    else:
        found, _ = parse_numbers(values)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = found * UNITS[unit] if unit in UNITS else found / 1000
            bad = ~((scaled >= 0) & (scaled < 2**62))
        return np.where(bad, 0, scaled).round().astype(np.int64), bad
    micros = parsed.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.maximum(micros, 0), micros < 0


def _iso(values: pa.Array) -> pa.Array:
    """Parse ISO 8601 texts: timestamps [us, UTC], null if a text is no time."""
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
