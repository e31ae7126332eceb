"""Read the user-item interaction log: a table of any format and length, by whole columns, block by block.

Finds the column of each field by its name, and converts values to ids, times and weights. A row that cannot be read is
rejected with its number and a reason, and the rest go on; no value is guessed. Knows no formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.interactions import MAX_DETAIL
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.values import doubtful_number
from coldstart.errors import ColdstartError
from coldstart.ingest.columns import (
    UNITS,
    Mask,
    are_doubtful,
    are_whole,
    date_form,
    detect_time_unit,
    encode_ids,
    flags,
    match_columns,
    parse_ids,
    parse_numbers,
    parse_texts,
    parse_times,
)
from coldstart.ingest.files import KNOWN
from coldstart.ingest.table import RawBlock
from coldstart.ingest.tables import open_table

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

_YEAR_US = 365 * 86_400 * 1_000_000


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
        notes: what was decided about the file, such as its encoding; those that may be wrong begin with "doubtful: ".
        time_unit: as found, once the first block is read; where times are texts but not ISO 8601, their form, such as
            `%d.%m.%Y`.

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
        path = existing_path(path)
        if not path.is_file():
            raise ColdstartError(f"no file of interactions at {path}{similar_path(path)}: give {KNOWN}")
        if time_unit not in (*UNITS, "iso", "auto"):
            raise ColdstartError(f"--time-unit {time_unit}: give s, ms, us, iso or auto")
        self.path, self.time_unit = path, time_unit
        self._now_us, self._event_weights = now_us, event_weights
        self._found_unit, self._believed = time_unit == "auto", time_unit in ("s", "iso")
        self._whole_floats: dict[str, bool] = {}
        try:
            self._table = open_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ColdstartError(f"cannot read {path}: {_reason(error)}") from error
        self.notes = [*self._table.notes, *(f"doubtful: {doubt}" for doubt in self._table.doubts)]
        if not self._table.columns:
            raise ColdstartError(f"{path} has no rows: give one interaction a row")
        self.columns, self.guessed = match_columns(self._table.columns, columns or {}, str(path))
        for column in self.columns.values():
            if column in self._table.doubled:
                raise ColdstartError(f"header of {path}: column {column!r} stands twice: rename one")
        if event_weights is not None and "event" not in self.columns:
            raise ColdstartError(
                f"--event-weights: {path} has no column of events; name it with --columns event=COLUMN"
            )

    def __iter__(self) -> Iterator[Block]:
        empty = True
        try:
            for raw in self._table.blocks(sorted(set(self.columns.values()))):
                if len(raw.rows) or raw.broken:
                    empty = False
                    yield self._block(raw)
        except (pa.ArrowException, OSError) as error:
            raise ColdstartError(f"cannot read {self.path} further: {_reason(error)}") from error
        if empty:
            raise ColdstartError(f"{self.path} has no rows: give one interaction a row")

    def _block(self, raw: RawBlock) -> Block:
        count = len(raw.rows)
        empty, none = pa.repeat("", count), pa.nulls(count, pa.string())
        given = {field: raw.columns[column] for field, column in self.columns.items()}
        faults: dict[str, tuple[Mask, pa.Array]] = {}
        ids: dict[str, pa.Array] = {}
        undecoded, odd = np.zeros(count, bool), np.zeros(count, bool)
        for name in ("user_id", "item_id", "event"):
            if name in given:
                ids[name], broken, strange = self._parse_ids(name, given[name])
                undecoded, odd = undecoded | broken, odd | strange
            else:
                ids[name] = empty
        faults["unreadable"] = undecoded, pa.array(["not UTF-8"] * count)
        for name, reason in (("user_id", "no_user"), ("item_id", "no_item")):
            faults[reason] = ids[name].is_null().to_numpy(zero_copy_only=False), none
        faults["bad_id"] = odd, pc.binary_join_element_wise(ids["user_id"], ids["item_id"], ", ")
        micros = np.zeros(count, np.int64)
        if "timestamp" in given:
            micros, bad = self._parse_times(given["timestamp"])
            faults["bad_time"] = bad, given["timestamp"]
            faults["future_time"] = micros > self._now_us + AHEAD_US, given["timestamp"]
        weights, bad = self._weights(given.get("weight"), ids["event"])
        if self._event_weights is not None:
            known = pa.array(list(self._event_weights), pa.string())
            faults["unknown_event"] = ~flags(pc.is_in(ids["event"], value_set=known)), ids["event"]
        if "weight" in given:
            faults["bad_weight"] = bad, given["weight"]
        rejected, good = _rejected(raw, faults)
        rows = [ids["user_id"], ids["item_id"], pa.array(micros, SCHEMA.field("timestamp").type)]
        rows += [ids["event"].fill_null(""), pa.array(weights)]
        return Block(pa.record_batch(rows, schema=SCHEMA).filter(pa.array(good)), rejected)

    def _parse_ids(self, name: str, values: pa.Array) -> tuple[pa.Array, Mask, Mask]:
        """Parse ids as `parse_ids` does; whole floats in text are recognised by the first block that has values."""
        coded = encode_ids(values)
        if name not in self._whole_floats and (whole := are_whole(coded.dictionary)) is not None:
            self._whole_floats[name] = whole
        return parse_ids(coded, self._whole_floats.get(name, False))

    def _parse_times(self, values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
        """Parse times; the first block that has some tells the unit, and whether it is believed.

        Raises:
            ColdstartError: all of them lie in 1970, and nobody said that they do.
        """
        if self.time_unit == "auto":
            self.time_unit = detect_time_unit(values)
            if self.time_unit == "iso" and not pa.types.is_temporal(values.type):
                self.time_unit = date_form(values) or "iso"
        micros, bad = parse_times(values, self.time_unit)
        if not self._believed and not bad.all():
            if (micros[~bad] < _YEAR_US).all():
                raise ColdstartError(self._doubtful_times_message(values.filter(pa.array(~bad))))
            self._believed = True
        if self._found_unit and self.time_unit == "s":
            bad = bad | are_doubtful(micros)
        return micros, bad

    def _doubtful_times_message(self, values: pa.Array) -> str:
        example, number = str(parse_texts(values.slice(0, 1))[0][0]), parse_numbers(values.slice(0, 1))[0][0]
        fault = f"all times of {self.path} lie in 1970, such as {example}"
        if not self._found_unit:
            size = detect_time_unit(values)
            return (
                f"with --time-unit {self.time_unit} {fault}; by their size they are in {size}: give --time-unit {size}"
            )
        if self.time_unit == "iso":
            return f"{fault}: they were made of numbers in another unit; if they are right, give --time-unit iso"
        hint = doubtful_number(number) or "no unit since 1970 fits"
        return f"{fault}: {hint}; if they are right, give --time-unit s"

    def _weights(self, column: pa.Array | None, events: pa.Array) -> tuple[NDArray[np.float32], Mask]:
        """Compute the weight of each row, and mark rows whose weight is no number."""
        weights, missing = (
            (np.ones(len(events)), np.zeros(len(events), bool)) if column is None else parse_numbers(column)
        )
        weights[missing] = 1
        for event, weight in (self._event_weights or {}).items():
            if weight is not None:
                weights[flags(pc.equal(events, event))] = weight
        with np.errstate(over="ignore"):
            found = weights.astype(np.float32)
        return found, ~np.isfinite(found)


def _rejected(raw: RawBlock, faults: Mapping[str, tuple[Mask, pa.Array]]) -> tuple[pa.Table, Mask]:
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
            short = pc.utf8_slice_codeunits(details.fill_null(""), 0, MAX_DETAIL)
            tables.append(pa.table([raw.rows[places], [reason] * len(places), short], schema=REJECTED))
    return pa.concat_tables(tables).sort_by("row"), good


def _reason(error: Exception) -> str:
    """Return the first line of an error of Arrow, or what it means."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return "a line is too long: shorten it, or end each line" if "straddling object" in text else text
