"""Files of interactions: who did what with which item, and when. CSV, JSONL or Parquet, of any length.

Files are converted block by block, by whole columns. A row that cannot be read is turned away with its number and a
reason, and the rest go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.interaction_columns import UNITS, columns_of, numbers, texts, times, unit_of
from coldstart.interaction_formats import FORMATS, KNOWN, Raw

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
REASONS = (
    *("unreadable", "no_user", "no_item", "bad_id"),
    *("bad_time", "future_time", "unknown_event", "bad_weight"),
)
AHEAD_US = 86_400 * 1_000_000
"""Clocks may differ by a day before a time counts as future."""

_LONGEST_ID, _DETAIL = 1024, 200


@dataclass(frozen=True)
class Block:
    """Some rows of a file.

    Attributes:
        rows: the good ones, of `SCHEMA`; `event` is "" where a file has none.
        rejected: the others, of `REJECTED`: row number, reason, the value at fault.
    """

    rows: pa.RecordBatch
    rejected: pa.Table


class InteractionFile:
    """A file of interactions, opened: its columns are known, nothing else is read yet. Iterating gives its blocks.

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
        ColdstartError: no such file, an unknown format, no rows, columns as in `columns_of`, events without a column.
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
        self.columns, self.guessed = columns_of(header, columns or {}, str(path))
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

    def _block(self, raw: Raw) -> Block:
        count = len(raw.rows)
        empty, none = pa.repeat("", count), pa.nulls(count, pa.string())
        given = {field: raw.columns[column] for field, column in self.columns.items()}
        faults: dict[str, tuple[NDArray[np.bool_], pa.Array]] = {}
        ids: dict[str, pa.Array] = {}
        undecoded, odd = np.zeros(count, bool), np.zeros(count, bool)
        for name in ("user_id", "item_id", "event"):
            ids[name], broken, strange = _ids(given[name]) if name in given else (empty, undecoded, odd)
            undecoded, odd = undecoded | broken, odd | strange
        faults["unreadable"] = undecoded, pa.array(["not UTF-8"] * count)
        for name, reason in (("user_id", "no_user"), ("item_id", "no_item")):
            faults[reason] = ids[name].is_null().to_numpy(zero_copy_only=False), none
        faults["bad_id"] = odd, pc.binary_join_element_wise(ids["user_id"], ids["item_id"], ", ")
        micros = np.zeros(count, np.int64)
        if "timestamp" in given:
            if self.time_unit == "auto":
                self.time_unit = unit_of(given["timestamp"])
            micros, bad = times(given["timestamp"], self.time_unit)
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
        """Weight of each row, and which have one that is no number."""
        weights, missing = (np.ones(len(events)), np.zeros(len(events), bool)) if column is None else numbers(column)
        weights[missing] = 1
        for event, weight in (self._event_weights or {}).items():
            if weight is not None:
                weights[_flags(pc.equal(events, event))] = weight
        with np.errstate(over="ignore"):
            found = weights.astype(np.float32)
        return found, ~np.isfinite(found)


def _ids(values: pa.Array) -> tuple[pa.Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Values as text, which are not UTF-8, and which no id can be: each spelling is looked at once."""
    if pa.types.is_nested(values.type):
        values, _ = texts(values)  # which says that they are no text
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    names, broken = texts(coded.dictionary)
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


def _rejected(raw: Raw, faults: Mapping[str, tuple[NDArray[np.bool_], pa.Array]]) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Rows that are turned away, each for its first reason, in file order; and which are good, bool [N]."""
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
            details, _ = texts(values.take(pa.array(places)))
            cut = pc.utf8_slice_codeunits(details.fill_null(""), 0, _DETAIL)
            tables.append(pa.table([raw.rows[places], [reason] * len(places), cut], schema=REJECTED))
    return pa.concat_tables(tables).sort_by("row"), good
