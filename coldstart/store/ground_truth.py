"""Find the true nearest neighbours of a sample of stored vectors, which recall is measured by, and keep them current.

One pass of matrix products serves all queries. From an earlier state a pass over the new vectors is enough: the nearest
are among the known and the new ones. A removed neighbour shortens a list, which stays true as far as it reaches; a
query whose list became too short is searched anew, and so is one that enters the sample. Every stored vector has about
the same chance to be in the sample. Neighbour lists, sample and table stand here together: each is of no use alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.store import sql

if TYPE_CHECKING:
    import lancedb

Vectors = NDArray[np.float32]
Ids = NDArray[np.object_]
_NONE: Any = None


@dataclass(frozen=True)
class NeighbourLists:
    """Nearest items of each query besides itself, as far as they are known for certain.

    Attributes:
        ids: object `[Q, K]`, None where there are fewer.
        distances: float32 `[Q, K]` (1 - cosine), rising; inf where there are fewer.
        reach: float32 `[Q]`: everything nearer than this is in the list; inf where the list holds all there is.
    """

    ids: Ids
    distances: Vectors
    reach: Vectors

    def without(self, gone: Collection[str]) -> NeighbourLists:
        """Remove items from the lists, which reach as far as before."""
        gone = frozenset(gone)
        out = np.array([item in gone for item in self.ids.flat], bool).reshape(self.ids.shape)
        distances = np.where(out, np.float32(np.inf), self.distances)
        order = np.argsort(distances, axis=1, kind="stable")
        return _cut(np.take_along_axis(self.ids, order, 1), np.take_along_axis(distances, order, 1), self.reach)

    def joined(self, other: NeighbourLists) -> NeighbourLists:
        """Merge the nearest of two disjoint sets of items, as far as both lists reach."""
        keep = self.ids.shape[1]
        ids, distances = np.hstack([self.ids, other.ids]), np.hstack([self.distances, other.distances])
        order = np.argsort(distances, axis=1, kind="stable")
        ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
        dropped = distances[:, keep:].min(axis=1, initial=np.inf)
        reach = np.minimum(np.minimum(self.reach, other.reach), dropped)
        return _cut(ids[:, :keep], distances[:, :keep], reach)

    def sure(self, top_k: int) -> NDArray[np.bool_]:
        """Tell for each query whether its `top_k` nearest are known for certain, bool `[Q]`."""
        known: NDArray[np.bool_] = np.isinf(self.reach) | (np.isfinite(self.distances).sum(axis=1) >= top_k)
        return known

    def take(self, places: NDArray[Any]) -> NeighbourLists:
        """Select the lists of some queries."""
        return NeighbourLists(self.ids[places], self.distances[places], self.reach[places])

    def replaced(self, places: NDArray[Any], new: NeighbourLists) -> NeighbourLists:
        """Replace the lists of some queries by those of `new`, in order."""
        ids, distances, reach = self.ids.copy(), self.distances.copy(), self.reach.copy()
        ids[places], distances[places], reach[places] = new.ids, new.distances, new.reach
        return NeighbourLists(ids, distances, reach)

    def added(self, other: NeighbourLists) -> NeighbourLists:
        """Append the queries of another."""
        return NeighbourLists(
            np.vstack([self.ids, other.ids]),
            np.vstack([self.distances, other.distances]),
            np.concatenate([self.reach, other.reach]),
        )


def _cut(ids: Ids, distances: Vectors, reach: Vectors) -> NeighbourLists:
    """Empty the lists beyond their reach."""
    unsure = ~((distances <= reach[:, None]) & np.isfinite(distances))
    return NeighbourLists(
        np.where(unsure, _NONE, ids), np.where(unsure, np.float32(np.inf), distances), reach.astype(np.float32)
    )


def empty_lists(queries: int, keep: int) -> NeighbourLists:
    """Build lists over no items."""
    shape = (queries, keep)
    return NeighbourLists(
        np.full(shape, None, object), np.full(shape, np.inf, np.float32), np.full(queries, np.inf, np.float32)
    )


def nearest_of(ids: Ids, distances: Vectors, keep: int) -> NeighbourLists:
    """Find the nearest of one block; the lists are complete where it has no more than `keep` items."""
    count = distances.shape[1]
    if not count:
        return empty_lists(len(distances), keep)
    near = np.argpartition(distances, keep, axis=1)[:, : keep + 1] if count > keep else np.argsort(distances, axis=1)
    values = np.take_along_axis(distances, near, 1)
    order = np.argsort(values, axis=1, kind="stable")
    values, near = np.take_along_axis(values, order, 1), np.take_along_axis(near, order, 1)
    reach = np.full(len(distances), np.inf, np.float32)
    if count > keep:
        reach, values, near = values[:, keep], values[:, :keep], near[:, :keep]
    found = np.where(np.isfinite(values), ids[near], _NONE)
    pad = ((0, 0), (0, keep - values.shape[1]))
    return _cut(
        np.pad(found, pad, constant_values=_NONE), np.pad(values, pad, constant_values=np.inf).astype(np.float32), reach
    )


BLOCK = 8192
"""Vectors in one matrix product."""
SPARE = 2
"""Neighbours stored, as a multiple of those that recall is measured on, so that some may go without a new search."""


@dataclass(frozen=True)
class Condition:
    """A filter under which recall is measured as well: one value of a column of labels."""

    column: str
    value: str

    @property
    def sql(self) -> str:
        """Condition as SQL."""
        return sql.equals(self.column, self.value)


@dataclass(frozen=True)
class Block:
    """Some vectors of a space: ids object `[B]`, unit vectors float32 `[B, D]`, and those that meet a filter."""

    ids: Ids
    vectors: Vectors
    meet: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """A sample of stored vectors and their true neighbours.

    Attributes:
        ids: object `[Q]`; vectors: float32 `[Q, D]`.
        near: over all vectors of the space; `filtered`: over those that meet `condition`, None where there is none.
    """

    ids: Ids
    vectors: Vectors
    condition: Condition | None
    near: NeighbourLists
    filtered: NeighbourLists | None

    def take(self, places: NDArray[Any]) -> Truth:
        """Select some queries of the sample."""
        filtered = None if self.filtered is None else self.filtered.take(places)
        return Truth(self.ids[places], self.vectors[places], self.condition, self.near.take(places), filtered)


def find_neighbours(
    table: Any, column: str, ids: Ids, vectors: Vectors, condition: Condition | None, top_k: int
) -> Truth:
    """Find the true neighbours of queries among all vectors of a table, by one pass over them."""
    near, filtered = _scan(blocks(table, column, condition), ids, vectors, condition, SPARE * top_k)
    return Truth(ids, vectors, condition, near, filtered)


def update_truth(
    truth: Truth,
    table: Any,
    column: str,
    changed: Sequence[str],
    gone: Collection[str],
    *,
    rows: int,
    size: int,
    top_k: int,
) -> Truth:
    """Update a sample after some items changed, to what `find_neighbours` would find in the table now.

    Args:
        changed: items that are new, or whose rows were written anew; `gone`: those that are no more.
        rows: vectors in the table now; `size`: queries wanted; the sample falls below it where its items went.
    """
    out = {*changed, *gone}
    truth = truth.take(np.flatnonzero([item not in out for item in truth.ids]))
    came = list(blocks(table, column, truth.condition, changed))
    near, filtered = truth.near.without(out), truth.filtered and truth.filtered.without(out)
    new, new_filtered = _scan(came, truth.ids, truth.vectors, truth.condition, near.ids.shape[1])
    near = near.joined(new)
    if filtered is not None and new_filtered is not None:
        filtered = filtered.joined(new_filtered)
    unsure = ~near.sure(top_k) | (False if filtered is None else ~filtered.sure(top_k))
    if unsure.any():
        places = np.flatnonzero(unsure)
        again = find_neighbours(table, column, truth.ids[places], truth.vectors[places], truth.condition, top_k)
        near = near.replaced(places, again.near)
        if filtered is not None and again.filtered is not None:
            filtered = filtered.replaced(places, again.filtered)
    truth = Truth(truth.ids, truth.vectors, truth.condition, near, filtered)
    return _with_newcomers(truth, table, column, came, rows=rows, size=size, top_k=top_k)


def _with_newcomers(
    truth: Truth, table: Any, column: str, came: Sequence[Block], *, rows: int, size: int, top_k: int
) -> Truth:
    """Let some of the new vectors enter the sample, at random; the same ones for the same table."""
    ids = np.concatenate([block.ids for block in came]) if came else np.array([], object)
    draw = np.random.default_rng(rows)
    entering = min(
        len(ids), size, max(int(draw.binomial(len(ids), min(1.0, size / max(1, rows)))), size - len(truth.ids))
    )
    if not entering:
        return truth
    chosen = np.sort(draw.choice(len(ids), entering, replace=False))
    vectors = np.concatenate([block.vectors for block in came])
    staying = np.sort(draw.permutation(len(truth.ids))[: size - entering])
    truth = truth.take(staying)
    own = find_neighbours(table, column, ids[chosen], vectors[chosen], truth.condition, top_k)
    filtered = truth.filtered
    if filtered is not None and own.filtered is not None:
        filtered = filtered.added(own.filtered)
    return Truth(
        np.concatenate([truth.ids, own.ids]),
        np.vstack([truth.vectors, own.vectors]),
        truth.condition,
        truth.near.added(own.near),
        filtered,
    )


def blocks(table: Any, column: str, condition: Condition | None, ids: Sequence[str] | None = None) -> Iterator[Block]:
    """Read the vectors of a column, of some items where `ids` are given, as unit vectors."""
    present = f"{column} IS NOT NULL"
    wheres = [present]
    if ids is not None:
        wheres = [
            f"{present} AND {sql.one_of('item_id', ids[start : start + BLOCK])}" for start in range(0, len(ids), BLOCK)
        ]
    names = ["item_id", column, *([condition.column] if condition else [])]
    for where in wheres:
        for batch in table.search().where(where).select(names).limit(None).to_batches(batch_size=BLOCK):
            if not batch.num_rows:
                continue
            vectors = batch[column].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
            meet = np.zeros(batch.num_rows, bool)
            if condition:
                meets = pc.fill_null(pc.equal(batch[condition.column], condition.value), False)
                meet = meets.to_numpy(zero_copy_only=False)
            yield Block(batch["item_id"].to_numpy(zero_copy_only=False), unit(vectors), meet)


def _scan(
    parts: Iterable[Block], ids: Ids, queries: Vectors, condition: Condition | None, keep: int
) -> tuple[NeighbourLists, NeighbourLists | None]:
    """Find the nearest of all vectors, and of those that meet the condition."""
    every, some = empty_lists(len(ids), keep), empty_lists(len(ids), keep)
    queries = unit(queries)
    for part in parts:
        if not len(ids):
            break
        distances = 1 - queries @ part.vectors.T
        own = pc.index_in(pa.array(ids, pa.string()), pa.array(part.ids, pa.string())).to_numpy(zero_copy_only=False)
        itself = np.flatnonzero(np.isfinite(own))
        distances[itself, own[itself].astype(int)] = np.inf
        every = every.joined(nearest_of(part.ids, distances, keep))
        if condition:
            some = some.joined(nearest_of(part.ids[part.meet], distances[:, part.meet], keep))
    return every, some if condition else None


SAMPLES_TABLE = "recall_samples"
CHANGED = b"changed"
"""Key of the schema's metadata: ids of the items written, and of those gone, since recall was measured, as JSON."""
FEWEST = 0.9
"""A sample that lost more of its queries than the rest of this share is drawn anew."""


@dataclass(frozen=True)
class Changes:
    """Items of the catalog that a write changed.

    Attributes:
        version: of the catalog before it.
        written: items that are new or were written anew; `gone`: those that were removed.
    """

    version: int
    written: Sequence[str] = ()
    gone: Collection[str] = ()


@dataclass
class RecallSamples:
    """Samples of the last measurement of recall, with the changes since, and those of this one.

    Attributes:
        known: space -> its sample as it was before `changes`; empty where something else happened in between.
        changes: of the last write, and of those before it after which recall was not measured.
        current: space -> its sample of now.
    """

    known: dict[str, Truth] = field(default_factory=dict)
    changes: Changes = field(default_factory=lambda: Changes(0))
    current: dict[str, Truth] = field(default_factory=dict)

    @classmethod
    def load(cls, table: Any, changes: Changes) -> RecallSamples:
        """Load the samples of the version that `changes` start from; none without a table of this release."""
        if table is None or table.schema.names != SAMPLES_SCHEMA.names:
            return cls()
        rows = table.search().where(f"version = {changes.version}").limit(None).to_arrow()
        earlier = json.loads((table.schema.metadata or {}).get(CHANGED, b"[[], []]"))
        written, gone = (
            dict.fromkeys([*before, *now]) for before, now in zip(earlier, (changes.written, changes.gone), strict=True)
        )
        return cls(from_arrow(rows), Changes(changes.version, [*written], [*gone]))

    def save(self, db: lancedb.DBConnection, version: int) -> None:
        """Save the current samples for a catalog of this version, or the known ones with the changes since."""
        if self.current:
            same = all(known is self.known.get(space) for space, known in self.current.items())
            if not (same and version == self.changes.version):
                db.create_table(SAMPLES_TABLE, to_arrow(self.current, version), mode="overwrite")
        elif self.known and version != self.changes.version:
            changed = json.dumps([[*self.changes.written], [*self.changes.gone]]).encode()
            rows = to_arrow(self.known, version).replace_schema_metadata({CHANGED: changed})
            db.create_table(SAMPLES_TABLE, rows, mode="overwrite")

    def of(
        self, table: Any, column: str, space: str, labels: pa.Table, condition: Condition | None, size: int, top_k: int
    ) -> Truth:
        """Return the sample of a space, updated where it can be, else drawn anew.

        Args:
            labels: the rows that have a vector; `condition`: see `choose_condition`.
            size: queries wanted.
        """
        rows, known = labels.num_rows, self.known.get(space)
        if known is None or not self._fits(known, condition, rows, size, top_k):
            ids, vectors = draw_rows(table, column, rows, size)
            self.current[space] = find_neighbours(table, column, ids, vectors, condition, top_k)
        elif self.changes.written or self.changes.gone:
            written, gone = self.changes.written, self.changes.gone
            self.current[space] = update_truth(known, table, column, written, gone, rows=rows, size=size, top_k=top_k)
        else:
            self.current[space] = known
        return self.current[space]

    def _fits(self, known: Truth, condition: Condition | None, rows: int, size: int, top_k: int) -> bool:
        changed = {*self.changes.written, *self.changes.gone}
        left = sum(item not in changed for item in known.ids)
        return (
            known.condition == condition
            and known.near.ids.shape[1] == SPARE * top_k
            and FEWEST * min(size, rows) <= left <= size
            and len(changed) < rows / 2
        )


def draw_rows(table: Any, column: str, with_vector: int, size: int, *, seed: int = 0) -> tuple[Ids, Vectors]:
    """Draw ids and vectors of up to `size` random rows, the same ones for the same table and seed."""
    rows = table.count_rows()
    draws = min(rows, math.ceil(1.5 * size * rows / with_vector))  # half as many again: rows without vector drop out
    offsets = np.random.default_rng(seed).choice(rows, size=draws, replace=False)
    taken = table.take_offsets(sorted(offsets.tolist())).select(["item_id", column]).to_arrow()
    taken = taken.filter(pc.is_valid(taken[column])).sort_by("item_id")
    keep = np.random.default_rng(seed).permutation(taken.num_rows)[:size]
    taken = taken.take(keep)
    vectors = taken[column].combine_chunks()
    return taken["item_id"].to_numpy(), vectors.flatten().to_numpy().reshape(len(vectors), -1)


def choose_condition(labels: pa.Table, known: Condition | None) -> Condition | None:
    """Choose the `kind` or `category` whose share of the rows is nearest to 10 %; None where none keeps 1 to 50 %.

    One that is known stays for as long as it keeps so many, whichever is nearer by now.
    """
    best: tuple[float, str, str] | None = None
    for column in ("kind", "category"):
        for entry in pc.value_counts(labels[column]).to_pylist():
            share = entry["counts"] / labels.num_rows
            if entry["values"] is not None and 0.01 <= share <= 0.5:
                if known == Condition(column, entry["values"]):
                    return known
                candidate = (abs(math.log(share / 0.1)), column, entry["values"])
                best = min(best, candidate) if best else candidate
    return Condition(*best[1:]) if best else None


SAMPLES_SCHEMA = pa.schema(
    [
        ("space", pa.string()),
        ("version", pa.int64()),
        ("item_id", pa.string()),
        ("query", pa.list_(pa.float32())),
        ("column", pa.string()),
        ("value", pa.string()),
        *(
            (f"{kind}_{name}", of)
            for kind in ("near", "filtered")
            for name, of in (
                ("ids", pa.list_(pa.string())),
                ("distances", pa.list_(pa.float32())),
                ("reach", pa.float32()),
            )
        ),
    ]
)
"""The table in which samples stay from run to run: one row a space and query; `version` is the catalog's."""


def to_arrow(truths: dict[str, Truth], version: int) -> pa.Table:
    """Convert samples to rows of `SCHEMA`."""
    rows = []
    for space, own in truths.items():
        for place, item in enumerate(own.ids):
            row: dict[str, Any] = {"space": space, "version": version, "item_id": item}
            row["query"] = own.vectors[place]
            if own.condition:
                row |= {"column": own.condition.column, "value": own.condition.value}
            for kind, near in (("near", own.near), ("filtered", own.filtered)):
                if near is not None:
                    row[f"{kind}_ids"] = near.ids[place].tolist()
                    row[f"{kind}_distances"] = near.distances[place]
                    row[f"{kind}_reach"] = near.reach[place]
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=SAMPLES_SCHEMA)


def from_arrow(rows: pa.Table) -> dict[str, Truth]:
    """Read samples by space from rows of `to_arrow`."""
    found = {}
    for space in pc.unique(rows["space"]).to_pylist():
        own = rows.filter(pc.equal(rows["space"], space)).combine_chunks()
        column, value = own["column"][0].as_py(), own["value"][0].as_py()
        near, filtered = (
            NeighbourLists(
                np.array(own[f"{kind}_ids"].to_pylist(), object).reshape(len(own), -1),
                np.array(own[f"{kind}_distances"].to_pylist(), np.float32).reshape(len(own), -1),
                own[f"{kind}_reach"].to_numpy().astype(np.float32),
            )
            if own[f"{kind}_reach"].null_count == 0
            else None
            for kind in ("near", "filtered")
        )
        assert near is not None
        condition = None if column is None else Condition(column, value)
        vectors = np.array(own["query"].to_pylist(), np.float32)
        found[space] = Truth(np.array(own["item_id"].to_pylist(), object), vectors, condition, near, filtered)
    return found
