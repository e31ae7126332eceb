"""Store the user-item interaction log of a workspace, and the rows that were rejected.

A row is the same if user, item, time and event are, so that a file may be read again and adds nothing, and one that was
read halfway resumes where it stopped; the last weight counts. Rows are identified by 64 bits of a hash: among ten
million rows the chance that any two are taken for one is 3 in a million. Writers hold the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.store import ITEMS, Store, tables
from coldstart.store.sql import equals

INTERACTIONS = "interactions"
REJECTED = "interactions_rejected"

REJECTED_SCHEMA = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string())]
)
_KEY = pa.field("row_key", pa.int64(), nullable=False)
_READ_ROWS = 1 << 18
_SECOND = 1_000_000

Keys = NDArray[np.int64]


@dataclass(frozen=True)
class AppendCounts:
    """Numbers of appended rows: `added`; `renewed`, present with another weight; `repeated`, present as they are."""

    added: int = 0
    repeated: int = 0
    renewed: int = 0

    def __add__(self, other: AppendCounts) -> AppendCounts:
        return AppendCounts(self.added + other.added, self.repeated + other.repeated, self.renewed + other.renewed)


@dataclass(frozen=True)
class InteractionSummary:
    """Counts and times of the table: `known_items` are those of `items` that the catalogue has; times in UTC."""

    rows: int
    users: int
    items: int
    known_items: int
    rejected: int
    first: datetime | None
    last: datetime | None


def met_items(store: Store, until_s: int | None = None) -> frozenset[str]:
    """Find the items with an interaction before a time, of any weight.

    Args:
        until_s: seconds since 1970; None: no end.
    """
    if not store.has(INTERACTIONS):
        return frozenset()
    where = None if until_s is None else f"timestamp < to_timestamp_seconds({until_s})"
    return frozenset(pc.unique(store.read(INTERACTIONS, ["item_id"], where=where)["item_id"]).to_pylist())


class InteractionTable:
    """The interactions of a workspace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self) -> int:
        return self._store.count(INTERACTIONS)

    def append(
        self, batches: Iterable[pa.RecordBatch], observe: Callable[[pa.Table], None] | None = None
    ) -> AppendCounts:
        """Add rows (`coldstart.ingest.interaction_file.SCHEMA`), each batch by one commit; equal rows are stored once.

        Holds 12 bytes for every row of the table while it runs.

        Args:
            observe: takes the rows that are new, as stored.
        """
        known = _Known(*self._columns("row_key", "weight", kinds=(np.int64, np.float32)))
        total = AppendCounts()
        for batch in batches:
            if not batch.num_rows:
                continue
            keys, weights = row_keys(batch), batch.column("weight").to_numpy()
            # of equal rows within a batch the last counts
            own, from_end = np.unique(keys[::-1], return_index=True)
            last = len(keys) - 1 - from_end
            fresh, changed = known.compare(own, weights[last])
            rows = pa.Table.from_batches([batch]).add_column(0, _KEY, pa.array(keys))
            if fresh.any():
                new = rows.take(pa.array(np.sort(last[fresh])))
                self._store.append(INTERACTIONS, new)
                if observe is not None:
                    observe(new)
            if changed.any():
                self._store.merge(INTERACTIONS, rows.take(pa.array(np.sort(last[changed]))), on=("row_key",))
            known = known.updated(own, weights[last], fresh, changed)
            added, renewed = int(fresh.sum()), int(changed.sum())
            total += AppendCounts(added, len(keys) - added - renewed, renewed)
        return total

    def read(self, start: int | None = None, end: int | None = None, min_weight: float | None = None) -> Interactions:
        """Read rows with start <= time < end, in seconds, and at least that weight; names sorted."""
        users: list[pa.Array] = []
        items: list[pa.Array] = []
        times, weights = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for batch in self._batches(["user_id", "item_id", "timestamp", "weight"]):
            seconds, kept = _within(batch, start, end)
            if min_weight is not None:
                kept &= batch.column("weight").to_numpy() >= min_weight
            if not kept.all():
                batch = batch.filter(pa.array(kept))
            times.append(seconds[kept])
            weights.append(batch.column("weight").to_numpy())
            users.append(batch.column("user_id").dictionary_encode())
            items.append(batch.column("item_id").dictionary_encode())
        (user_ids, user_places), (item_ids, item_places) = coded(users), coded(items)
        columns = (user_places, item_places, np.concatenate(times), np.concatenate(weights))
        return Interactions(user_ids, item_ids, *columns)

    def weights(self) -> NDArray[np.float32]:
        """Read the weight of every row, float32 [N], in no order."""
        (found,) = self._columns("weight", kinds=(np.float32,))
        return found

    def digest(self, start: int | None = None, end: int | None = None) -> str:
        """Compute SHA-256 over the rows with start <= time < end, whatever their order and their batches."""
        found = [np.empty(0, np.uint64)]
        for batch in self._batches(["row_key", "timestamp", "weight"]):
            kept = _within(batch, start, end)[1]
            bits = batch.column("weight").to_numpy().view(np.uint32).astype(np.uint64)
            found.append(mixed(batch.column("row_key").to_numpy().view(np.uint64) + bits)[kept])
        return sha256(np.sort(np.concatenate(found)).astype("<u8").tobytes()).hexdigest()

    def summary(self) -> InteractionSummary:
        """Count rows, users and items, and find the first and last time."""
        users: list[pa.Array] = []
        items: list[pa.Array] = []
        rows, spans = 0, list[int]()
        for batch in self._batches(["user_id", "item_id", "timestamp"]):
            rows += batch.num_rows
            users.append(batch.column("user_id").dictionary_encode())
            items.append(batch.column("item_id").dictionary_encode())
            span = pc.min_max(batch.column("timestamp").cast(pa.int64()))
            spans += [span["min"].as_py(), span["max"].as_py()]
        met = distinct_names(items)
        first, last = (
            (pa.scalar(edge, pa.timestamp("us", "UTC")).as_py() for edge in (min(spans), max(spans)))
            if spans
            else (None, None)
        )
        known = int(pc.sum(self.in_catalogue(met)).as_py() or 0)
        rejected = self._store.count(REJECTED)
        return InteractionSummary(rows, len(distinct_names(users)), len(met), known, rejected, first, last)

    def in_catalogue(self, item_ids: pa.Array) -> pa.Array:
        """Tell whether each item is one of the workspace's, bool [N]."""
        return in_catalogue(self._store, item_ids)

    # -- reading

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self._store.has(INTERACTIONS):
            with tables.reading(self._store.db, INTERACTIONS):
                table = self._store.db.open_table(INTERACTIONS)
                yield from table.search().select(list(columns)).to_batches(batch_size=_READ_ROWS)

    def _columns(self, *names: str, kinds: Sequence[Any]) -> list[NDArray[Any]]:
        found: list[list[NDArray[Any]]] = [[np.empty(0, kind)] for kind in kinds]
        for batch in self._batches(names):
            for column, values in zip(names, found, strict=True):
                values.append(batch.column(column).to_numpy())
        return [np.concatenate(values) for values in found]


class RejectedRows:
    """Rows of log files that were turned away, in a table of their own.

    Args:
        table: its name.
    """

    def __init__(self, store: Store, table: str) -> None:
        self._store, self._table = store, table

    def forget(self, file: Path) -> None:
        """Remove the rejected rows of a file before it is read again."""
        self._store.drop(self._table, equals("file", str(file)))

    def add(self, file: Path, rows: pa.Table) -> None:
        """Store rejected rows: `row`, `reason`, `detail`."""
        if rows.num_rows:
            names = pa.array([str(file)] * rows.num_rows, pa.string())
            self._store.append(self._table, rows.add_column(0, "file", names).cast(REJECTED_SCHEMA))


def in_catalogue(store: Store, item_ids: pa.Array) -> pa.Array:
    """Tell whether each item is one of the workspace's, bool [N]."""
    if not store.has(ITEMS):
        return pa.array(np.zeros(len(item_ids), bool))
    return pc.is_in(item_ids, value_set=store.read(ITEMS, ["item_id"])["item_id"].combine_chunks())


class _Known:
    """Keys of the stored rows, sorted, and their weights."""

    def __init__(self, keys: Keys, weights: NDArray[np.float32]) -> None:
        order = np.argsort(keys, kind="stable")  # of two sorted runs this is one merge
        self._keys, self._weights = keys[order], weights[order]

    def compare(self, keys: Keys, weights: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell which rows are new, and which have another weight: bool [N] each."""
        if not len(self._keys):
            return np.ones(len(keys), bool), np.zeros(len(keys), bool)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        there = self._keys[places] == keys
        return ~there, there & (self._weights[places] != weights)

    def updated(
        self, keys: Keys, weights: NDArray[np.float32], fresh: NDArray[np.bool_], changed: NDArray[np.bool_]
    ) -> _Known:
        self._weights[np.searchsorted(self._keys, keys[changed])] = weights[changed]
        if not fresh.any():
            return self
        return _Known(np.concatenate([self._keys, keys[fresh]]), np.concatenate([self._weights, weights[fresh]]))


def row_keys(batch: pa.RecordBatch) -> Keys:
    """Hash user, item, time and event of each row to 64 bits, int64 [N]; the same on every machine."""
    key = np.zeros(batch.num_rows, np.uint64)
    for name in ("user_id", "item_id", "event"):
        key = mixed(key + hashed(batch.column(name)))
    found: Keys = mixed(key + batch.column("timestamp").cast(pa.int64()).to_numpy().view(np.uint64)).view(np.int64)
    return found


def hashed(names: pa.Array) -> NDArray[np.uint64]:
    """Hash each name to 64 bits, uint64 [N]; 0 for null. Each distinct name is hashed once."""
    coded = names.dictionary_encode()
    digests = [blake2b(name, digest_size=8).digest() for name in coded.dictionary.cast(pa.binary()).to_pylist()]
    known = np.frombuffer(b"".join([*digests, bytes(8)]), "<u8")
    found: NDArray[np.uint64] = known[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return found


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Permute 64 bits so that every bit depends on all: splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _within(batch: pa.RecordBatch, start: int | None, end: int | None) -> tuple[Keys, NDArray[np.bool_]]:
    """Return the seconds of a batch's rows, and which of them lie between."""
    seconds = batch.column("timestamp").cast(pa.int64()).to_numpy() // _SECOND
    kept = np.ones(len(seconds), bool)
    if start is not None:
        kept &= seconds >= start
    if end is not None:
        kept &= seconds < end
    return seconds, kept


def coded(chunks: Sequence[pa.Array]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Sort the names of encoded columns, and find each row's place among them, -1 for null."""
    if not chunks:
        return (), np.empty(0, np.int32)
    unified = pa.chunked_array(chunks).unify_dictionaries()
    names = unified.chunk(0).dictionary
    order = pc.array_sort_indices(names).to_numpy()
    places = np.full(len(order) + 1, -1, np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in unified.chunks])
    return tuple(names.take(pa.array(order)).to_pylist()), places[codes]


def distinct_names(chunks: Sequence[pa.Array]) -> pa.Array:
    """Collect all names, in no order."""
    return pa.chunked_array(chunks).unify_dictionaries().chunk(0).dictionary if chunks else pa.array([], pa.string())
