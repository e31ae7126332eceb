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

from coldstart.errors import ColdstartError
from coldstart.ingest.columns import FIELDS, NEEDED, Mask, flags, parse_numbers
from coldstart.ingest.log_file import AHEAD_US, TIME, Faults, LogFile, rejected_rows
from coldstart.ingest.table import RawBlock

SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", TIME, nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Block:
    """Rows of one block of a file.

    Attributes:
        rows: the good ones, of `SCHEMA`; `event` is "" where a file has none.
        rejected: the others, of `log_file.REJECTED`: row number, reason, the value at fault.
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
        self._file = LogFile(
            path, row="interaction", fields=FIELDS, needed=NEEDED, columns=columns, time_unit=time_unit
        )
        self.path, self.columns, self.guessed = self._file.path, self._file.columns, self._file.guessed
        self.notes = self._file.notes
        self._now_us, self._event_weights = now_us, event_weights
        if event_weights is not None and "event" not in self.columns:
            raise ColdstartError(
                f"--event-weights: {path} has no column of events; name it with --columns event=COLUMN"
            )

    @property
    def time_unit(self) -> str:
        """Unit of the times; see `LogFile.time_unit`."""
        return self._file.time_unit

    def __iter__(self) -> Iterator[Block]:
        for raw in self._file.blocks():
            yield self._block(raw)

    def _block(self, raw: RawBlock) -> Block:
        count = len(raw.rows)
        empty, none = pa.repeat("", count), pa.nulls(count, pa.string())
        given = {field: raw.columns[column] for field, column in self.columns.items()}
        faults: Faults = {}
        ids: dict[str, pa.Array] = {}
        undecoded, odd = np.zeros(count, bool), np.zeros(count, bool)
        for name in ("user_id", "item_id", "event"):
            if name in given:
                ids[name], broken, strange = self._file.parse_ids(name, given[name])
                undecoded, odd = undecoded | broken, odd | strange
            else:
                ids[name] = empty
        faults["unreadable"] = undecoded, pa.array(["not UTF-8"] * count)
        for name, reason in (("user_id", "no_user"), ("item_id", "no_item")):
            faults[reason] = ids[name].is_null().to_numpy(zero_copy_only=False), none
        faults["bad_id"] = odd, pc.binary_join_element_wise(ids["user_id"], ids["item_id"], ", ")
        micros = np.zeros(count, np.int64)
        if "timestamp" in given:
            micros, bad = self._file.parse_times("timestamp", given["timestamp"])
            faults["bad_time"] = bad, given["timestamp"]
            faults["future_time"] = micros > self._now_us + AHEAD_US, given["timestamp"]
        weights, bad = self._weights(given.get("weight"), ids["event"])
        if self._event_weights is not None:
            known = pa.array(list(self._event_weights), pa.string())
            faults["unknown_event"] = ~flags(pc.is_in(ids["event"], value_set=known)), ids["event"]
        if "weight" in given:
            faults["bad_weight"] = bad, given["weight"]
        rejected, good = rejected_rows(raw, faults)
        rows = [ids["user_id"], ids["item_id"], pa.array(micros, TIME)]
        rows += [ids["event"].fill_null(""), pa.array(weights)]
        return Block(pa.record_batch(rows, schema=SCHEMA).filter(pa.array(good)), rejected)

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
