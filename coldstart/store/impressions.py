"""Store the showings of a workspace with their outcomes, and the rows that were rejected or came before their showing.

A showing is the same if its key is (`coldstart.store.showing_keys`): a file may be read again and adds nothing.
Outcomes that come later fill in what a showing lacks, and the last value counts. Writers hold the store's lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.impressions import NONE, STATED, UNEXPLAINED, WINDOW_S, Impressions, is_signal, signal_name
from coldstart.errors import ColdstartError
from coldstart.store import Store, tables
from coldstart.store.fragments import ADDRESS, TableVersion, commit_fragments, write_fragments
from coldstart.store.interactions import INTERACTIONS, coded, distinct_names, hashed, in_catalogue, mixed
from coldstart.store.showing_keys import (
    Keys,
    KnownKeys,
    Occurrences,
    RequestUsers,
    WantedKeys,
    microseconds,
    ranks_in_runs,
    row_keys,
)

IMPRESSIONS = "impressions"
REJECTED = "impressions_rejected"
EARLY = "impressions_early"
"""Table of outcomes that stand before their showing, by one clock or the other; they count for nothing."""

FIXED = ("row_key", "user_id", "item_id", "timestamp", "position", "surface", "propensity", "request_id", "outcome_at")
"""Columns of a showing; all others are outcomes."""
MOST_SIGNALS = 256
"""Outcomes that a workspace may name."""

_KEY = pa.field("row_key", pa.int64(), nullable=False)
_SHOWING = (*FIXED[:2], "item_id", "request_id", "timestamp")
_READ_ROWS = 1 << 18
_REPLACED_ROWS = 1 << 17
"""Rows that are written anew at once."""
_PENDING_ROWS = 1_000_000
"""Rows with outcomes of stored showings that are held in memory before they are written."""
_DAY_US, _SECOND_US = 86_400 * 10**6, 10**6
_LATEST_US = 253_402_300_799 * _SECOND_US
"""End of the year 9999, after which Python has no times; a damaged table may."""

Rejected = Callable[[pa.Table], None]
"""Takes rows that were turned away: `row`, `reason`, `detail`."""


@dataclass(frozen=True)
class ImpressionCounts:
    """Numbers of rows: `added`; `renewed`, with new outcomes of a stored showing; `repeated`, which add nothing;
    `rejected`. Of them `early`, whose outcome stands before its showing, and `alike`, which name no request and are as
    another row of the file."""

    added: int = 0
    renewed: int = 0
    repeated: int = 0
    rejected: int = 0
    early: int = 0
    alike: int = 0

    def __add__(self, other: ImpressionCounts) -> ImpressionCounts:
        return ImpressionCounts(*(getattr(self, one) + getattr(other, one) for one in self.__dataclass_fields__))


@dataclass(frozen=True)
class ImpressionSummary:
    """Counts of the table.

    Attributes:
        days: with a showing, in UTC; requests: named ones; known_items: those of `items` that the catalogue has.
        without_outcome: showings that state no outcome; with_propensity: those that state a probability.
        signals: outcome -> showings that state it, and those of them where it is above 0.
        early: outcomes that stand before their showing, and are kept apart; rejected: rows that were turned away.
    """

    rows: int
    days: int
    users: int
    items: int
    known_items: int
    requests: int
    without_outcome: int
    with_propensity: int
    signals: dict[str, tuple[int, int]] = field(default_factory=dict)
    early: int = 0
    rejected: int = 0
    first: datetime | None = None
    last: datetime | None = None


class ImpressionTable:
    """The showings of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self) -> int:
        return self._store.count(IMPRESSIONS)

    def signals(self) -> list[str]:
        """List the names of the outcomes, in the order in which they came."""
        if not self._store.has(IMPRESSIONS):
            return []
        with tables.reading(self._store.db, IMPRESSIONS):
            schema = self._store.db.open_table(IMPRESSIONS).schema
        return [own.name for own in schema if own.name not in FIXED and pa.types.is_floating(own.type)]

    # -- writing

    def append(
        self, blocks: Iterable[tuple[pa.RecordBatch, NDArray[np.int64]]], rejected: Rejected
    ) -> ImpressionCounts:
        """Add showings, each block by one commit; a stored one takes the outcomes of its row instead.

        Holds 8 bytes for every row of the table while it runs.

        Args:
            blocks: rows (`coldstart.ingest.impression_file.SCHEMA` and outcomes), and their numbers.
            rejected: gets the rows of a request that another user made, in these blocks or, of the same item, before.
        """
        known, made_by = KnownKeys(self._keys()), RequestUsers()
        pending, total, met = _Pending(self, rejected), ImpressionCounts(), Occurrences()
        for batch, numbers in blocks:
            other = made_by.differ(batch)
            if other.any():
                _refuse(rejected, numbers[other], "other_user")
                total += ImpressionCounts(rejected=int(other.sum()))
                batch, numbers = batch.filter(pa.array(~other)), numbers[~other]
            if not batch.num_rows:
                continue
            keys, alike = met.told_apart(row_keys(batch), batch.column("request_id"))
            total += ImpressionCounts(alike=alike)
            own, first = np.unique(keys, return_index=True)
            fresh = ~known.contains(own)
            new = np.zeros(len(keys), bool)
            new[first[fresh]] = True
            rows = pa.Table.from_batches([batch]).add_column(0, _KEY, pa.array(keys))
            if not new.all():
                pending.add(rows.filter(pa.array(~new)), numbers[~new])
                rows = rows.filter(pa.array(new))
            if rows.num_rows:
                kept, early = _without_early(rows)
                self._store.append(IMPRESSIONS, self._with_all_columns(kept))
                self._set_apart(early)
                total += ImpressionCounts(added=rows.num_rows, early=early.num_rows)
                known.add(own[fresh])
            total += pending.flush(at_least=_PENDING_ROWS)
        return total + pending.flush()

    def add_outcomes(
        self, blocks: Iterable[tuple[pa.RecordBatch, NDArray[np.int64]]], rejected: Rejected
    ) -> ImpressionCounts:
        """Give stored showings outcomes that came later, by request and item; arguments as for `append`."""
        pending, total = _Pending(self, rejected), ImpressionCounts()
        for batch, numbers in blocks:
            if batch.num_rows:
                rows = pa.Table.from_batches([batch]).add_column(0, _KEY, pa.array(row_keys(batch)))
                pending.add(rows, numbers)
                total += pending.flush(at_least=_PENDING_ROWS)
        return total + pending.flush()

    def write(self, rows: pa.Table, rejected: Rejected) -> ImpressionCounts:
        """Write outcomes of stored showings: rows of `_Pending`, perhaps several a showing."""
        rows = rows.take(pa.array(np.argsort(rows["row_key"].to_numpy(), kind="stable")))
        keys, numbers, own = (rows[name].to_numpy() for name in ("row_key", _NUMBER, _USER))
        rows = rows.drop_columns([_NUMBER, _USER])
        users, times, there = self._stored(keys)
        other = there & (own != 0) & (own != users)
        for reason, wrong in (("no_showing", ~there), ("other_user", other)):
            if wrong.any():
                _refuse(rejected, numbers[wrong], reason)
        usable = there & ~other
        at = microseconds(rows["outcome_at"])
        early = usable & (at < times)
        good = usable & ~early
        repeated = int(good.sum())
        changed = np.zeros(0, np.int64)
        if good.any():
            changed = self._renew(_folded(rows.filter(pa.array(good))))
        renewed = int(np.isin(keys[good], changed).sum())
        if early.any():
            named = self._showings_of(rows.filter(pa.array(early)))
            self._set_apart(named)
        turned = int((~usable).sum())
        return ImpressionCounts(0, renewed, repeated - renewed + int(early.sum()), turned, int(early.sum()))

    def _renew(self, outcomes: pa.Table) -> Keys:
        """Fill outcomes into stored showings; returns the keys of those that they changed."""
        names = signal_names(outcomes.column_names)
        wanted = outcomes["row_key"].to_numpy()
        values = {name: outcomes[name].combine_chunks() for name in (*names, "outcome_at")}
        waiting: list[pa.Table] = []

        def flush() -> None:
            if waiting:
                self._replace(pa.concat_tables(waiting, promote_options="default"))
                waiting.clear()

        differing = self._differing(wanted, values)
        for batch in self._rows_of(differing):
            rows = pa.Table.from_batches([batch])
            places = pa.array(np.searchsorted(wanted, batch.column("row_key").to_numpy()))
            for name, own in values.items():
                new = own.take(places)
                old = rows[name].combine_chunks() if name in rows.column_names else pa.nulls(len(new), new.type)
                rows = _set(rows, name, pc.coalesce(new, old))
            waiting.append(rows)
            if sum(map(len, waiting)) >= _REPLACED_ROWS:
                flush()
        flush()
        return differing

    def _replace(self, rows: pa.Table) -> None:
        """Write rows in the place of those of their keys, by one commit.

        By address, where the files are within reach: a merge holds the keys of the whole table.
        """
        if len(np.unique(rows["row_key"].to_numpy())) < len(rows):
            raise tables.damaged(self._store.db, IMPRESSIONS, "rows stand more than once")
        if ADDRESS not in rows.column_names:
            self._store.merge(IMPRESSIONS, rows, on=("row_key",))
            return
        gone, rows = rows[ADDRESS].to_pylist(), self._with_all_columns(rows.drop_columns([ADDRESS]))
        with tables.reading(self._store.db, IMPRESSIONS):
            table = self._store.db.open_table(IMPRESSIONS).to_lance()
            where = TableVersion(table.uri, table.version, table.data_storage_version)
            commit_fragments(where, write_fragments(where, rows), gone)

    def _differing(self, wanted: Keys, values: dict[str, pa.Array]) -> Keys:
        """Find the showings, of sorted keys, that lack one of some outcomes or have another value; sorted."""
        known = self.signals()
        stored = [name for name in values if name in known]
        found, marked = [np.empty(0, np.int64)], WantedKeys(wanted)
        for batch in self._batches(["row_key", *stored]):
            keys = batch.column("row_key").to_numpy()
            hits, places = marked.find(keys)
            if not len(hits):
                continue
            at, differs = pa.array(places), np.zeros(len(hits), bool)
            for name, own in values.items():
                if name != "outcome_at":
                    new = own.take(at)
                    same = (
                        pc.equal(new, batch.column(name).take(pa.array(hits))) if name in stored else pa.nulls(len(new))
                    )
                    differs |= ~_flags(same.cast(pa.bool_())) & new.is_valid().to_numpy(zero_copy_only=False)
            found.append(keys[hits][differs])
        return np.sort(np.concatenate(found))

    def _set_apart(self, rows: pa.Table) -> None:
        """Store outcomes that stand before their showing; one that is stored already is not stored again."""
        if rows.num_rows:
            at = microseconds(rows["outcome_at"]).view(np.uint64)
            keys = mixed(rows["row_key"].to_numpy().view(np.uint64) + mixed(at)).view(np.int64)
            folded = _folded(_set(rows, "row_key", pa.array(keys)))
            known = [name for name in self._store.columns(EARLY) if name not in folded.column_names]
            for name in known:
                folded = folded.append_column(name, pa.nulls(len(folded), pa.float32()))
            signals = signal_names(folded.column_names)
            self._store.merge(EARLY, folded.select([*_SHOWING, "outcome_at", *signals]), on=("row_key",))

    def _with_all_columns(self, rows: pa.Table) -> pa.Table:
        """Add the outcomes that the table has and the rows lack, in its order, and to the table those that it lacks."""
        known = self.signals()
        extra = [name for name in signal_names(rows.column_names) if name not in known]
        if len(known) + len(extra) > MOST_SIGNALS:
            raise ColdstartError(
                f"the impressions of workspace {self._store.uri} have {len(known)} outcomes, and {extra[0]!r} would be "
                f"over the most, {MOST_SIGNALS}: name fewer with --signals"
            )
        if extra and self._store.has(IMPRESSIONS):
            self._store.open_or_create(IMPRESSIONS, pa.schema([(name, pa.float32()) for name in extra]))
        for name in known:
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.float32()))
        return rows.select([*FIXED, *known, *extra])

    # -- reading

    def read(self, start: int | None = None, end: int | None = None, window_s: float | None = WINDOW_S) -> Impressions:
        """Read the showings with start <= time < end, in seconds.

        Args:
            window_s: match showings without an outcome with the interactions of their user and item that follow within
                so many seconds; None: match nothing.
        """
        if window_s is None or not self._store.has(INTERACTIONS):
            return self._read(start, end)
        margin = int(np.ceil(window_s)) + 1  # a showing before or after may own an interaction that is near to both
        wide = self._read(None if start is None else start - 2 * margin, None if end is None else end + margin)
        own = np.ones(len(wide), bool)
        if start is not None:
            own &= wide.times >= start * _SECOND_US
        if end is not None:
            own &= wide.times < end * _SECOND_US
        users, items, times, events, names = self._met(wide, start, end, margin)
        found = wide.with_matches(users, items, times, events, names, window_s, own)
        return found if own.all() else _where(found, own)

    def _read(self, start: int | None, end: int | None) -> Impressions:
        names = self.signals()
        texts: dict[str, list[pa.Array]] = {name: [] for name in ("user_id", "item_id", "surface", "request_id")}
        times, positions, propensities = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0)]
        signals: dict[str, list[Any]] = {name: [np.empty(0, np.float32)] for name in names}
        for batch in self._batches(["timestamp", "position", "propensity", *texts, *names]):
            micros = microseconds(batch.column("timestamp"))
            kept = np.ones(len(micros), bool)
            if start is not None:
                kept &= micros >= start * _SECOND_US
            if end is not None:
                kept &= micros < end * _SECOND_US
            if not kept.all():
                batch, micros = batch.filter(pa.array(kept)), micros[kept]
            for name, chunks in texts.items():
                chunks.append(batch.column(name).dictionary_encode())
            times.append(micros)
            positions.append(batch.column("position").cast(pa.int32(), safe=False).fill_null(-1).to_numpy())
            propensities.append(batch.column("propensity").to_numpy(zero_copy_only=False))
            for name, values in signals.items():
                values.append(batch.column(name).cast(pa.float32()).to_numpy(zero_copy_only=False))
        (user_ids, users), (item_ids, items), (surface_ids, surfaces) = (
            coded(texts[name]) for name in ("user_id", "item_id", "surface")
        )
        known = {name: np.concatenate(values).astype(np.float32) for name, values in signals.items()}
        stated = np.zeros(len(users), bool)
        for own in known.values():
            stated |= ~np.isnan(own)
        return Impressions(
            user_ids,
            item_ids,
            surface_ids,
            users,
            items,
            surfaces,
            _codes(texts["request_id"]),
            np.concatenate(times),
            np.concatenate(positions),
            np.concatenate(propensities).astype(np.float64),
            known,
            np.where(stated, STATED, NONE).astype(np.int8),
        )

    def _met(self, shown: Impressions, start: int | None, end: int | None, margin: int) -> tuple[Any, ...]:
        """Read the interactions that may belong to showings, as `Impressions.with_matches` takes them."""
        users, items = pa.array(shown.user_ids, pa.string()), pa.array(shown.item_ids, pa.string())
        found: list[list[Any]] = [[np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]]
        events: list[pa.Array] = []
        for batch in self._store.batches(INTERACTIONS, ["user_id", "item_id", "timestamp", "event"]):
            micros = microseconds(batch.column("timestamp"))
            kept = micros >= (0 if start is None else (start - margin) * _SECOND_US)
            if end is not None:
                kept &= micros < (end + margin) * _SECOND_US
            places = [
                pc.index_in(batch.column(name), value_set=known).fill_null(-1).to_numpy()
                for name, known in (("user_id", users), ("item_id", items))
            ]
            kept &= (places[0] >= 0) & (places[1] >= 0)
            for own, values in zip(found, (*places, micros), strict=True):
                own.append(values[kept])
            events.append(batch.column("event").filter(pa.array(kept)).dictionary_encode())
        names, codes = coded(events)
        signals, own_codes = _event_signals(names, codes)
        return (*(np.concatenate(own) for own in found), own_codes, signals)

    def counts(self, item_ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Count the showings of items that were clicked or liked, and all of them, [N] each; None where no showing of
        the table states either."""
        names = [name for name in ("click", "like") if name in self.signals()]
        if not names:
            return None
        known, count = pa.array(item_ids, pa.string()), len(item_ids)
        clicks, shown = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for batch in self._batches(["item_id", *names]):
            places = pc.index_in(batch.column("item_id"), value_set=known).fill_null(-1).to_numpy()
            there = places >= 0
            clicked = np.zeros(batch.num_rows, bool)
            for name in names:
                clicked |= batch.column(name).to_numpy(zero_copy_only=False) > 0
            shown += np.bincount(places[there], minlength=count)
            clicks += np.bincount(places[there & clicked], minlength=count)
        return clicks, shown

    def digest(self) -> str:
        """Compute SHA-256 over the showings with their outcomes, whatever their order and their batches.

        Holds eight bytes a showing.
        """
        names = sorted(self.signals())
        found = [np.empty(0, np.uint64)]
        for batch in self._batches(["row_key", "position", *names]):
            rows = batch.column("row_key").to_numpy().view(np.uint64)
            for name in ("position", *names):
                values = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
                bits = np.where(np.isnan(values), np.nan, values + 0.0).view(np.uint64)  # one NaN, one zero
                rows = mixed(rows + mixed(bits))
            found.append(rows)
        keys = np.sort(np.concatenate(found)).astype("<u8")
        return sha256(json.dumps(names).encode() + b"\0" + keys.tobytes()).hexdigest()

    def summary(self) -> ImpressionSummary:
        """Count rows, days, users, items, requests and outcomes."""
        names = self.signals()
        texts: dict[str, list[pa.Array]] = {name: [] for name in ("user_id", "item_id", "request_id")}
        rows = without = with_propensity = 0
        days: set[int] = set()
        spans: list[int] = []
        signals = {name: np.zeros(2, np.int64) for name in names}
        for batch in self._batches(["timestamp", "propensity", *texts, *names]):
            rows += batch.num_rows
            micros = microseconds(batch.column("timestamp"))
            days.update(np.unique(micros // _DAY_US).tolist())
            spans += [int(micros.min()), min(int(micros.max()), _LATEST_US)]
            for name, chunks in texts.items():
                chunks.append(batch.column(name).dictionary_encode())
            with_propensity += batch.num_rows - batch.column("propensity").null_count
            stated = np.zeros(batch.num_rows, bool)
            for name, counts in signals.items():
                values = batch.column(name).to_numpy(zero_copy_only=False)
                stated |= ~np.isnan(values)
                counts += (int((~np.isnan(values)).sum()), int((values > 0).sum()))
            without += int((~stated).sum())
        met = distinct_names(texts["item_id"])
        edges = (
            [pa.scalar(edge, pa.timestamp("us", "UTC")).as_py() for edge in (min(spans), max(spans))] if spans else ()
        )
        first, last = edges or (None, None)
        return ImpressionSummary(
            rows,
            len(days),
            len(distinct_names(texts["user_id"])),
            len(met),
            int(pc.sum(in_catalogue(self._store, met)).as_py() or 0),
            distinct_names(texts["request_id"]).drop_null().__len__(),
            without,
            with_propensity,
            {name: (int(stated), int(above)) for name, (stated, above) in signals.items()},
            self._store.count(EARLY),
            self._store.count(REJECTED),
            first,
            last,
        )

    def _batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        if self._store.has(IMPRESSIONS):
            with tables.reading(self._store.db, IMPRESSIONS):
                query = self._store.db.open_table(IMPRESSIONS).search()
                if columns is not None:
                    query = query.select(list(columns))
                for batch in query.to_batches(batch_size=_READ_ROWS):
                    if batch.num_rows:
                        yield batch

    def _whole_rows(self) -> Iterator[pa.RecordBatch]:
        """Read all columns, and the address of each row where the files are within reach; few rows ahead, since a
        hundred thousand of them take megabytes."""
        if self._store.uri.startswith("db://") or "?" in self._store.uri or not self._store.has(IMPRESSIONS):
            yield from self._batches(None)
            return
        with tables.reading(self._store.db, IMPRESSIONS):
            table = self._store.db.open_table(IMPRESSIONS).to_lance()
            scanner = table.scanner(
                batch_size=_REPLACED_ROWS, batch_readahead=1, fragment_readahead=1, with_row_address=True
            )
            for batch in scanner.to_batches():
                if batch.num_rows:
                    yield batch

    def _keys(self) -> Keys:
        found = [batch.column("row_key").to_numpy() for batch in self._batches(["row_key"])]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def _stored(self, keys: Keys) -> tuple[NDArray[np.uint64], Keys, NDArray[np.bool_]]:
        """Find hash of the user, and time, of the showing of each key, and which have one; keys are sorted, [N]."""
        users, times, there = np.zeros(len(keys), np.uint64), np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        own, first = np.unique(keys, return_index=True)
        counts = np.diff(np.r_[first, len(keys)])
        wanted = WantedKeys(own)
        for batch in self._batches(["row_key", "user_id", "timestamp"]):
            hits, at = wanted.find(batch.column("row_key").to_numpy())
            if len(hits):
                met = batch.take(pa.array(hits))
                rows = np.repeat(first[at], counts[at]) + ranks_in_runs(counts[at])
                users[rows] = np.repeat(hashed(met.column("user_id")), counts[at])
                times[rows] = np.repeat(microseconds(met.column("timestamp")), counts[at])
                there[rows] = True
        return users, times, there

    def _rows_of(self, keys: Keys) -> Iterator[pa.RecordBatch]:
        """Read whole rows of some keys, which are sorted."""
        if not len(keys):
            return
        wanted = WantedKeys(keys)
        for batch in self._whole_rows():
            hits, _ = wanted.find(batch.column("row_key").to_numpy())
            if len(hits):
                yield batch.take(pa.array(hits))

    def _showings_of(self, outcomes: pa.Table) -> pa.Table:
        """Complete outcomes, sorted by key, by user, item, request and time of their showing."""
        keys = outcomes["row_key"].to_numpy()
        found = pa.Table.from_batches(list(self._rows_of(np.unique(keys)))).select(list(_SHOWING))
        order = pc.sort_indices(found, [("row_key", "ascending")])
        found = found.take(order)
        named = found.take(pa.array(np.searchsorted(found["row_key"].to_numpy(), keys)))
        for name in ("user_id", "item_id", "request_id", "timestamp"):
            outcomes = _set(outcomes, name, named[name])
        return outcomes


_NUMBER, _USER = "-number", "-user"
"""Columns of rows that wait, besides those of the table: the row's number, and the hash of its user, 0 for none."""


class _Pending:
    """Rows with outcomes of stored showings that wait to be written together."""

    def __init__(self, table: ImpressionTable, rejected: Rejected) -> None:
        self._table, self._rejected = table, rejected
        self._rows: list[pa.Table] = []

    def add(self, rows: pa.Table, numbers: NDArray[np.int64]) -> None:
        """Hold rows, without the fields that are the showing's own."""
        users = pa.array(hashed(rows["user_id"].combine_chunks()))
        kept = rows.select(["row_key", "outcome_at", *signal_names(rows.column_names)])
        self._rows.append(kept.append_column(_NUMBER, pa.array(numbers)).append_column(_USER, users))

    def flush(self, at_least: int = 1) -> ImpressionCounts:
        """Write what waits, where that is so many rows."""
        if sum(map(len, self._rows)) < at_least:
            return ImpressionCounts()
        rows = pa.concat_tables(self._rows, promote_options="default")
        self._rows = []
        return self._table.write(rows, self._rejected)


def _refuse(rejected: Rejected, numbers: NDArray[np.int64], reason: str) -> None:
    """Turn rows away by their numbers alone: a value that is made of a user's id could not be erased."""
    rejected(pa.table({"row": numbers, "reason": [reason] * len(numbers), "detail": [""] * len(numbers)}))


def signal_names(columns: Sequence[str]) -> list[str]:
    """List the columns that are outcomes."""
    return [name for name in columns if name not in FIXED]


def _without_early(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Take outcomes that stand before their showing out of new rows; returns the rows, and those that had such ones."""
    if rows["outcome_at"].null_count == rows.num_rows:
        return rows, rows.slice(0, 0)
    at = microseconds(rows["outcome_at"])
    wrong = (at < microseconds(rows["timestamp"])) & rows["outcome_at"].is_valid().to_numpy()
    if not wrong.any():
        return rows, rows.slice(0, 0)
    early = rows.filter(pa.array(wrong)).drop_columns(["position", "surface", "propensity"])
    for name in ("outcome_at", *signal_names(rows.column_names)):
        rows = _set(rows, name, pc.if_else(pa.array(wrong), pa.scalar(None, rows[name].type), rows[name]))
    return rows, early


def _folded(rows: pa.Table) -> pa.Table:
    """Join the rows of each key to one, whose every column has its last value that is there; sorted by key."""
    keys = rows["row_key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    rows, keys = rows.take(pa.array(order)), keys[order]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    if len(first) == len(keys):
        return rows
    last = np.r_[first[1:], len(keys)] - 1
    columns = {}
    for name in rows.column_names:
        valid = rows[name].is_valid().to_numpy()
        newest = np.maximum.accumulate(np.where(valid, np.arange(len(keys)), -1))[last]
        columns[name] = rows[name].take(pa.array(newest, mask=newest < first))
    return pa.table(columns, schema=rows.schema)


def _flags(values: Any) -> NDArray[np.bool_]:
    """Convert truth values, null for false."""
    found: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _set(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Replace a column, or add it at the end."""
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, values) if at < 0 else rows.set_column(at, rows.schema.field(at), values)


def _codes(chunks: Sequence[pa.Array]) -> NDArray[np.int32]:
    """Number names, whatever their order, -1 for null."""
    if not chunks:
        return np.empty(0, np.int32)
    unified = pa.chunked_array(chunks).unify_dictionaries()
    return np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in unified.chunks])


def _event_signals(events: Sequence[str], codes: NDArray[np.int32]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Name the outcomes that events of interactions are, and their place among them for each row. A row without an
    event, and one of an event that no outcome can be named by, or too rare among many, is an interaction."""
    frequent = set(np.argsort(-np.bincount(codes, minlength=len(events)), kind="stable")[: MOST_SIGNALS - 1].tolist())
    spelled = [signal_name(event) for event in events]
    spelled = [name if place in frequent and is_signal(name) else UNEXPLAINED for place, name in enumerate(spelled)]
    names = tuple(dict.fromkeys(spelled))
    places = np.array([names.index(name) for name in spelled], np.int32)
    return names, places[codes] if len(places) else codes


def _where(found: Impressions, kept: NDArray[np.bool_]) -> Impressions:
    """Select rows, over the same names."""
    own = {
        name: getattr(found, name)[kept]
        for name in ("users", "items", "surfaces", "requests", "times", "positions", "propensities", "source")
    }
    return replace(found, **own, signals={name: values[kept] for name, values in found.signals.items()})
