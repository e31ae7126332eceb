"""Read the columns that all logs have: an open file of rows of users and items, its ids and its times, block by block.

Knows no formats, and no fields but those of ids and times; interactions and impressions have readers of their own. A
row that cannot be read is rejected with its number and a reason, and the rest go on; no value is guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    match_columns,
    parse_ids,
    parse_numbers,
    parse_texts,
    parse_times,
)
from coldstart.ingest.files import KNOWN
from coldstart.ingest.table import RawBlock
from coldstart.ingest.tables import open_table

REJECTED = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])

TIME = pa.timestamp("us", "UTC")

AHEAD_US = 86_400 * 1_000_000
"""Clocks may differ by a day before a time counts as future."""

Faults = dict[str, tuple[Mask, pa.Array]]
"""Reason -> which rows are at fault, bool [N], and the values that say so."""

_YEAR_US = 365 * 86_400 * 1_000_000


class LogFile:
    """Open log: its columns are matched to our fields, its rows not read yet.

    Args:
        row: what a row is, such as `interaction`, for messages.
        fields, needed, columns: as `match_columns` takes them.
        time_unit: `s`, `ms`, `us`, `iso`, or `auto`: by the first block.

    Attributes:
        columns: our field -> column, as found; guessed: those of them that were recognised by name.
        header: all columns of the file.
        notes: what was decided about the file, such as its encoding; those that may be wrong begin with "doubtful: ".

    Raises:
        ColdstartError: no such file, an unknown format, no rows, or a fault of `match_columns`.
    """

    def __init__(
        self,
        path: Path,
        *,
        row: str,
        fields: Sequence[str],
        needed: Sequence[str],
        columns: Mapping[str, str] | None = None,
        time_unit: str = "auto",
    ) -> None:
        path = existing_path(path)
        if not path.is_file():
            raise ColdstartError(f"no file of {row}s at {path}{similar_path(path)}: give {KNOWN}")
        if time_unit not in (*UNITS, "iso", "auto"):
            raise ColdstartError(f"--time-unit {time_unit}: give s, ms, us, iso or auto")
        self.path, self._row, self._given_unit = path, row, time_unit
        self._times: dict[str, TimeColumn] = {}
        self._whole_floats: dict[str, bool] = {}
        try:
            self._table = open_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ColdstartError(f"cannot read {path}: {_reason(error)}") from error
        self.notes = [*self._table.notes, *(f"doubtful: {doubt}" for doubt in self._table.doubts)]
        self.header = list(self._table.columns)
        if not self.header:
            raise self._empty()
        self.columns, self.guessed = match_columns(self.header, columns or {}, str(path), fields, needed)
        self.check_once(self.columns.values())

    def check_once(self, columns: Collection[str]) -> None:
        """Refuse columns whose name stands twice in the header.

        Raises:
            ColdstartError: one does.
        """
        for column in columns:
            if column in self._table.doubled:
                raise ColdstartError(f"header of {self.path}: column {column!r} stands twice: rename one")

    @property
    def time_unit(self) -> str:
        """Unit of the times of `timestamp`: as given, or as found once the first block is read; where times are texts
        but not ISO 8601, their form, such as `%d.%m.%Y`."""
        known = self._times.get("timestamp")
        return self._given_unit if known is None else known.unit

    def blocks(self, further: Collection[str] = ()) -> Iterator[RawBlock]:
        """Read the matched columns and some further ones.

        Raises:
            ColdstartError: the file cannot be read further, or has no rows.
        """
        empty = True
        try:
            for raw in self._table.blocks(sorted({*self.columns.values(), *further})):
                if len(raw.rows) or raw.broken:
                    empty = False
                    yield raw
        except (pa.ArrowException, OSError) as error:
            raise ColdstartError(f"cannot read {self.path} further: {_reason(error)}") from error
        if empty:
            raise self._empty()

    def _empty(self) -> ColdstartError:
        return ColdstartError(f"{self.path} has no rows: give one {self._row} a row")

    def parse_ids(self, name: str, values: pa.Array) -> tuple[pa.Array, Mask, Mask]:
        """Parse ids as `parse_ids` does; whole floats in text are recognised by the first block that has values."""
        coded = encode_ids(values)
        if name not in self._whole_floats and (whole := are_whole(coded.dictionary)) is not None:
            self._whole_floats[name] = whole
        return parse_ids(coded, self._whole_floats.get(name, False))

    def parse_times(self, field: str, values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
        """Parse the times of a field to microseconds, and mark those that are none; see `TimeColumn`."""
        if field not in self._times:
            self._times[field] = TimeColumn(self.path, self._given_unit)
        return self._times[field].parse(values)


class TimeColumn:
    """Times of one column, whose unit the first block tells.

    Attributes:
        unit: as given, or as found.
    """

    def __init__(self, path: Path, unit: str) -> None:
        self.unit = unit
        self._path = path
        self._found, self._believed = unit == "auto", unit in ("s", "iso")

    def parse(self, values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
        """Parse times; the first block that has some tells the unit, and whether it is believed.

        Raises:
            ColdstartError: all of them lie in 1970, and nobody said that they do.
        """
        if self.unit == "auto":
            self.unit = detect_time_unit(values)
            if self.unit == "iso" and not pa.types.is_temporal(values.type):
                self.unit = date_form(values) or "iso"
        micros, bad = parse_times(values, self.unit)
        if not self._believed and not bad.all():
            if (micros[~bad] < _YEAR_US).all():
                raise ColdstartError(self._doubtful_message(values.filter(pa.array(~bad))))
            self._believed = True
        if self._found and self.unit == "s":
            bad = bad | are_doubtful(micros)
        return micros, bad

    def _doubtful_message(self, values: pa.Array) -> str:
        example, number = str(parse_texts(values.slice(0, 1))[0][0]), parse_numbers(values.slice(0, 1))[0][0]
        fault = f"all times of {self._path} lie in 1970, such as {example}"
        if not self._found:
            size = detect_time_unit(values)
            return f"with --time-unit {self.unit} {fault}; by their size they are in {size}: give --time-unit {size}"
        if self.unit == "iso":
            return f"{fault}: they were made of numbers in another unit; if they are right, give --time-unit iso"
        hint = doubtful_number(number) or "no unit since 1970 fits"
        return f"{fault}: {hint}; if they are right, give --time-unit s"


def rejected_rows(raw: RawBlock, faults: Mapping[str, tuple[Mask, pa.Array]]) -> tuple[pa.Table, Mask]:
    """List rejected rows (`REJECTED`), each with its first reason, in file order, and mark the good ones, bool [N]."""
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
