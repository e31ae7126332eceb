"""The true nearest neighbours of a sample of vectors, by which an index is judged, kept up to date by what changed.

One pass of matrix products over the vectors serves all queries of the sample at once. Where the neighbours are known as
of an earlier state, a pass over the vectors that came since is enough: the nearest of all are among those known and the
new ones. A neighbour that went shortens a list, which stays true as far as it reaches; a query whose list became too
short is looked up anew, and so is one that takes a place in the sample. Every stored vector has about the same chance
to be in the sample: a new one enters with the chance that its size gives, in the place of another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.workspace import sql
from coldstart.workspace.near import Ids, Near, Vectors, nearest_of, nothing

BLOCK = 8192
"""Vectors in one matrix product."""
SPARE = 2
"""Neighbours are kept for so many times those asked for, so that some may go before a list is too short."""


@dataclass(frozen=True)
class Condition:
    """A filter under which recall is measured as well: one value of a column of labels."""

    column: str
    value: str

    @property
    def sql(self) -> str:
        return sql.equals(self.column, self.value)


@dataclass(frozen=True)
class Block:
    """Some vectors of a space: ids object `[B]`, unit vectors float32 `[B, D]`, and which meet the condition."""

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
    near: Near
    filtered: Near | None

    def take(self, places: NDArray[Any]) -> Truth:
        filtered = None if self.filtered is None else self.filtered.take(places)
        return Truth(self.ids[places], self.vectors[places], self.condition, self.near.take(places), filtered)


def found(table: Any, column: str, ids: Ids, vectors: Vectors, condition: Condition | None, top_k: int) -> Truth:
    """The true neighbours of queries among all vectors of a table, by one pass over them."""
    near, filtered = _scan(blocks(table, column, condition), ids, vectors, condition, SPARE * top_k)
    return Truth(ids, vectors, condition, near, filtered)


def renewed(
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
    """What `found` would say of the table as it is now, from what it said before some items changed.

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
        again = found(table, column, truth.ids[places], truth.vectors[places], truth.condition, top_k)
        near = near.replaced(places, again.near)
        if filtered is not None and again.filtered is not None:
            filtered = filtered.replaced(places, again.filtered)
    truth = Truth(truth.ids, truth.vectors, truth.condition, near, filtered)
    return _with_newcomers(truth, table, column, came, rows=rows, size=size, top_k=top_k)


def _with_newcomers(
    truth: Truth, table: Any, column: str, came: Sequence[Block], *, rows: int, size: int, top_k: int
) -> Truth:
    """Some of the vectors that came take places in the sample, at random; the same ones for the same table."""
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
    own = found(table, column, ids[chosen], vectors[chosen], truth.condition, top_k)
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
    """The vectors of a column, those of some items where `ids` are given, as unit vectors."""
    there = f"{column} IS NOT NULL"
    wheres = [there]
    if ids is not None:
        wheres = [
            f"{there} AND {sql.one_of('item_id', ids[start : start + BLOCK])}" for start in range(0, len(ids), BLOCK)
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


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one, float32; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-30)), np.float32)


def _scan(
    parts: Iterable[Block], ids: Ids, queries: Vectors, condition: Condition | None, keep: int
) -> tuple[Near, Near | None]:
    """The nearest of all vectors, and of those that meet the condition."""
    every, some = nothing(len(ids), keep), nothing(len(ids), keep)
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
