"""Read a log of showings, or of outcomes that came after them: a table of any format, block by block.

Outcomes are columns of their own (`click`, `dwell_s`, …), or, in a file of later outcomes, events of rows. A row that
cannot be read is rejected with its number and a reason, and the rest go on; no value is guessed. Knows no formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.impressions import OUTCOME_FIELDS, SHOWN_FIELDS, SIGNALS, is_signal, signal_name
from coldstart.core.settings import nearest_or
from coldstart.errors import ColdstartError
from coldstart.ingest.columns import flags, parse_numbers, parse_signals, parse_texts, without_missing
from coldstart.ingest.log_file import AHEAD_US, TIME, Faults, LogFile, rejected_rows
from coldstart.ingest.table import RawBlock

SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", TIME),
        pa.field("position", pa.int32()),
        pa.field("surface", pa.string()),
        pa.field("propensity", pa.float64()),
        pa.field("request_id", pa.string()),
        pa.field("outcome_at", TIME),
    ]
)
"""Columns of a block; those of outcomes follow, float32 each. Later outcomes have no `timestamp`."""

_NAMES_OF = {
    "click": {"click", "clicks", "clicked", "isclick", "isclicked"},
    "dwell_s": {"dwell", "dwells", "dwelltime", "dwelltimes", "dwellseconds", "dwellsec", "dwellms", "dwelltimems"},
    "like": {"like", "liked", "islike", "isliked"},
    "hide": {"hide", "hidden", "ishide", "ishidden"},
}
_MILLISECONDS = re.compile(r"(_ms|[a-z]Ms|milli(second)?s?)$")
_AT_ONCE = 100_000
"""Rows that are parsed at once: what is made of a row on the way takes a kilobyte."""
_NAN = ("nan", "+nan", "-nan")
MOST_SIGNALS = 64
"""Outcomes that one file may name."""


@dataclass(frozen=True)
class ImpressionBlock:
    """Rows of one block of a file.

    Attributes:
        rows: the good ones, of `SCHEMA` and a column an outcome; numbers: their row numbers, int64 [N].
        rejected: the others, of `log_file.REJECTED`.
    """

    rows: pa.RecordBatch
    numbers: NDArray[np.int64]
    rejected: pa.Table


class ImpressionFile:
    """Open log of showings: only its columns are read yet; iterating yields its blocks.

    Args:
        later: the file has outcomes that came after their showings, by request and item, and no showings.
        columns: our field (`SHOWN_FIELDS`, or `OUTCOME_FIELDS`) -> the file's column, "" for none; fields that are left
            out are recognised by name where that is plain.
        signals: name of an outcome -> the file's column, "" for one of the same name; besides those that are recognised
            (`SIGNALS`).
        time_unit, now_us: as for `InteractionFile`.

    Attributes:
        columns, guessed: as for `InteractionFile`; signals: outcome -> column.
        notes: what was decided about the file, and the columns that are not read.

    Raises:
        ColdstartError: as for `InteractionFile`, or a fault in the outcomes.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_us: int,
        later: bool = False,
        columns: Mapping[str, str] | None = None,
        signals: Mapping[str, str] | None = None,
        time_unit: str = "auto",
    ) -> None:
        self._file = LogFile(
            path,
            row="outcome" if later else "impression",
            fields=OUTCOME_FIELDS if later else SHOWN_FIELDS,
            needed=("request_id", "item_id") if later else ("user_id", "item_id", "timestamp"),
            columns=columns,
            time_unit=time_unit,
        )
        self.path, self.columns, self.guessed = self._file.path, self._file.columns, dict(self._file.guessed)
        self._later, self._now_us, self._events = later, now_us, set[str]()
        self.signals = self._match_signals(signals or {})
        self._file.check_once(self.signals.values())
        dwell = self.signals.get("dwell_s")
        self._in_milliseconds = dwell is not None and _MILLISECONDS.search(dwell) is not None
        if later and not self.signals and "event" not in self.columns:
            raise ColdstartError(
                f"{path} has no outcomes: name a column of some with --signals NAME=COLUMN, or one of events with "
                "--columns event=COLUMN"
            )
        if "value" in self.columns and "event" not in self.columns:
            raise ColdstartError(f"{path}: a column of values needs one of events: --columns event=COLUMN")
        read = {*self.columns.values(), *self.signals.values()}
        unit = [f"dwell_s: {dwell} is in milliseconds"] if self._in_milliseconds else []
        self.notes = [*self._file.notes, *unit]
        if left := [column for column in self._file.header if column not in read]:
            self.notes.append(
                f"columns that are not read: {', '.join(left)}; --signals NAME=COLUMN keeps one as an outcome"
            )

    @property
    def time_unit(self) -> str:
        """Unit of the times; see `LogFile.time_unit`."""
        return self._file.time_unit

    def __iter__(self) -> Iterator[ImpressionBlock]:
        for raw in self._file.blocks(self.signals.values()):
            for start in range(0, max(len(raw.rows), 1), _AT_ONCE):
                yield self._block(_part(raw, start))

    def _match_signals(self, given: Mapping[str, str]) -> dict[str, str]:
        """Match outcomes to the file's columns: outcome -> column.

        Raises:
            ColdstartError: a name that no outcome can have, or a column that is not there.
        """
        header, found = self._file.header, dict[str, str]()
        for name, column in given.items():
            if not is_signal(name):
                raise ColdstartError(
                    f"--signals {name}: an outcome is named by small letters, digits and _, and not as another field"
                )
            column = column or name
            if column not in header:
                hint = nearest_or(column, header, f"there is {', '.join(header)}")
                raise ColdstartError(f"--signals {name}={column}: {self.path} has no such column; {hint}")
            found[name] = column
        taken = {*self.columns.values(), *found.values()}
        for name in SIGNALS:
            if name in found:
                continue
            same = [column for column in header if column == name and column not in taken]
            close = same or [
                column
                for column in header
                if re.sub(r"[^a-z]", "", column.lower()) in _NAMES_OF[name] and column not in taken
            ]
            if len(close) > 1:
                either = " or ".join(close)
                raise ColdstartError(f"{self.path}: {name} may be {either}; say which with --signals {name}={close[0]}")
            if close:
                found[name] = close[0]
                if not same:
                    self.guessed[name] = close[0]
        if len(found) > MOST_SIGNALS:
            raise ColdstartError(f"--signals: {len(found)} outcomes, and {MOST_SIGNALS} are the most")
        return found

    def _block(self, raw: RawBlock) -> ImpressionBlock:
        count = len(raw.rows)
        none = pa.nulls(count, pa.string())
        given = {field: raw.columns[column] for field, column in self.columns.items()}
        faults: Faults = {}
        ids: dict[str, pa.Array] = {}
        undecoded, odd = np.zeros(count, bool), np.zeros(count, bool)
        for name in ("user_id", "item_id", "request_id", "surface", "event"):
            ids[name] = none
            if name in given:
                ids[name], broken, strange = self._file.parse_ids(name, given[name])
                undecoded, odd = undecoded | broken, odd | strange
        faults["unreadable"] = undecoded, pa.repeat("not UTF-8", count)
        faults["no_item"] = flags(ids["item_id"].is_null()), none
        if self._later:
            faults["no_request"] = flags(ids["request_id"].is_null()), none
        else:
            faults["no_user"] = flags(ids["user_id"].is_null()), none
        named = [ids[name].fill_null("") for name in ("user_id", "item_id", "request_id", "surface", "event")]
        faults["bad_id"] = odd, pc.binary_join_element_wise(*named, ", ") if odd.any() else none
        shown, outcome_at = self._times(given, faults)
        positions = self._positions(given.get("position"), count, faults)
        propensities = self._propensities(given.get("propensity"), count, faults)
        signals = self._signals(raw, ids["event"], given.get("value"), faults)
        rejected, good = rejected_rows(raw, faults)
        columns = [ids["user_id"], ids["item_id"], shown, positions, ids["surface"], propensities, ids["request_id"]]
        schema = SCHEMA
        for name in signals:
            schema = schema.append(pa.field(name, pa.float32()))
        numbers = [pa.array(values, pa.float32(), from_pandas=True) for values in signals.values()]
        rows = pa.record_batch([*columns, outcome_at, *numbers], schema=schema)
        return ImpressionBlock(rows if good.all() else rows.filter(pa.array(good)), raw.rows[good], rejected)

    def _times(self, given: Mapping[str, pa.Array], faults: Faults) -> tuple[pa.Array, pa.Array]:
        """Parse the times of showings and of outcomes; either may be empty."""
        found: dict[str, pa.Array] = {}
        for field in ("timestamp", "outcome_at"):
            if field not in given:
                continue
            values = given[field]
            micros, bad = self._file.parse_times(field, values)
            absent = np.zeros(len(values), bool)
            if field == "outcome_at" or self._later:  # a showing without an outcome has no time of one
                absent = without_missing(parse_texts(values)[0]).is_null().to_numpy(zero_copy_only=False)
            faults["bad_time" if field == "timestamp" else "bad_outcome_time"] = bad & ~absent, values
            late = micros > self._now_us + AHEAD_US
            if "future_time" in faults:
                before, earlier = faults["future_time"]
                faults["future_time"] = before | late, pc.if_else(pa.array(before), _texts(earlier), _texts(values))
            else:
                faults["future_time"] = late, values
            found[field] = pa.array(micros, TIME, mask=absent | bad)
        empty = pa.nulls(len(next(iter(given.values()))), TIME)
        own = found.get("timestamp", empty)
        return (empty, own) if self._later else (own, found.get("outcome_at", empty))

    def _positions(self, column: pa.Array | None, count: int, faults: Faults) -> pa.Array:
        if column is None:
            return pa.nulls(count, pa.int32())
        found, missing = parse_numbers(column)
        with np.errstate(invalid="ignore"):
            right = (found >= 0) & (found < 2**31) & (found == np.floor(found))
        faults["bad_position"] = ~(right | missing), column
        return pa.array(np.where(right, found, 0).astype(np.int32), mask=~right)

    def _propensities(self, column: pa.Array | None, count: int, faults: Faults) -> pa.Array:
        """Parse probabilities above 0 up to 1; an empty one is not known, and NaN is a fault."""
        if column is None:
            return pa.nulls(count, pa.float64())
        found, _ = parse_numbers(column)
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            absent = column.is_null().to_numpy(zero_copy_only=False)
        else:
            texts = parse_texts(column)[0]
            is_nan = flags(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(_NAN)))
            absent = without_missing(texts).is_null().to_numpy(zero_copy_only=False) & ~is_nan
        right = (found > 0) & (found <= 1)
        bad = ~(right | absent)
        faults["bad_propensity"] = bad, _texts(column) if bad.any() else column
        return pa.array(found, mask=~right)

    def _signals(
        self, raw: RawBlock, events: pa.Array, values: pa.Array | None, faults: Faults
    ) -> dict[str, NDArray[np.float32]]:
        """Parse the outcomes of columns, and those that events name: outcome -> its values, NaN where there is none."""
        found: dict[str, NDArray[np.float32]] = {}
        bad, wrong = np.zeros(len(raw.rows), bool), pa.nulls(len(raw.rows), pa.string())
        for name, column in self.signals.items():
            numbers, odd = parse_signals(raw.columns[column])
            if name == "dwell_s":
                numbers = numbers / np.float32(1000 if self._in_milliseconds else 1)
                odd |= numbers < 0
            if odd.any():
                texts = pc.binary_join_element_wise(f"{column} ", _texts(raw.columns[column]).fill_null(""), "")
                wrong = pc.if_else(pa.array(odd & ~bad), texts, wrong)
                bad |= odd
            found[name] = numbers
        if "event" in self.columns:
            numbers = np.ones(len(raw.rows), np.float32)
            if values is not None:
                numbers, odd = parse_signals(values)
                numbers[np.isnan(numbers) & ~odd] = 1
                wrong = pc.if_else(pa.array(odd & ~bad), _texts(values), wrong)
                bad |= odd
            coded = events.dictionary_encode()
            places = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            names = [signal_name(name) for name in coded.dictionary.to_pylist()]
            for name in names:
                if is_signal(name) and len(self._events) < MOST_SIGNALS:
                    self._events.add(name)
            usable = [name in self._events for name in names]
            faults["bad_event"] = ~np.array([*usable, bool(self.signals)], bool)[places], events
            for place, name in enumerate(names):
                if usable[place]:
                    own = found.setdefault(name, np.full(len(raw.rows), np.nan, np.float32))
                    own[places == place] = numbers[places == place]
        faults["bad_outcome"] = bad, wrong
        return found


def _part(raw: RawBlock, start: int) -> RawBlock:
    """Copy `_AT_ONCE` rows out of a block: of a slice, Arrow makes texts as large as the whole."""
    rows = raw.rows[start : start + _AT_ONCE]
    if len(rows) == len(raw.rows):
        return raw
    places = pa.array(np.arange(start, start + len(rows)))
    columns = {name: values.take(places) for name, values in raw.columns.items()}
    return RawBlock(columns, rows, [] if start else raw.broken)


def _texts(values: pa.Array) -> pa.Array:
    """Convert values to text for messages; NaN is one, too."""
    if pa.types.is_floating(values.type):
        return values.cast(pa.string())
    return parse_texts(values)[0]
