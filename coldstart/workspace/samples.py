"""Samples of vectors with their true neighbours, kept in a table from one measurement of recall to the next."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldstart.workspace import truth
from coldstart.workspace.near import Ids, Near, Vectors
from coldstart.workspace.truth import Condition, Truth

TABLE = "recall_samples"
FEWEST = 0.9
"""A sample that lost more of its queries than the rest of this share is drawn anew."""


@dataclass(frozen=True)
class Changes:
    """What a write did to the catalog.

    Attributes:
        version: of the catalog before it.
        written: items that are new or were written anew; `gone`: those that were removed.
    """

    version: int
    written: Sequence[str] = ()
    gone: Collection[str] = ()


@dataclass
class Samples:
    """Those of the last measurement, as far as it is known what changed since, and those of this one.

    Attributes:
        known: space -> its sample as it was before `changes`; empty where something else happened in between.
        current: space -> its sample of now.
    """

    known: dict[str, Truth] = field(default_factory=dict)
    changes: Changes = field(default_factory=lambda: Changes(0))
    current: dict[str, Truth] = field(default_factory=dict)

    @classmethod
    def load(cls, table: Any, changes: Changes) -> Samples:
        """Those that a table keeps for the version that the changes set out from; none where there is no table, or a
        table of another release."""
        if table is None or table.schema.names != SCHEMA.names:
            return cls()
        rows = table.search().where(f"version = {changes.version}").limit(None).to_arrow()
        return cls(from_arrow(rows), changes)

    def save(self, db: lancedb.DBConnection, version: int) -> None:
        """Keep those of now, for a catalog of this version."""
        same = all(known is self.known.get(space) for space, known in self.current.items())
        if self.current and not (same and version == self.changes.version):
            db.create_table(TABLE, to_arrow(self.current, version), mode="overwrite")

    def of(
        self, table: Any, column: str, space: str, labels: pa.Table, condition: Condition | None, size: int, top_k: int
    ) -> Truth:
        """The sample of a space, brought up to date where it can be, else drawn anew.

        Args:
            labels: the rows that have a vector; `condition`: see `chosen`.
            size: queries wanted.
        """
        rows, known = labels.num_rows, self.known.get(space)
        if known is None or not self._fits(known, condition, rows, size, top_k):
            ids, vectors = drawn(table, column, rows, size)
            self.current[space] = truth.found(table, column, ids, vectors, condition, top_k)
        elif self.changes.written or self.changes.gone:
            written, gone = self.changes.written, self.changes.gone
            self.current[space] = truth.renewed(known, table, column, written, gone, rows=rows, size=size, top_k=top_k)
        else:
            self.current[space] = known
        return self.current[space]

    def _fits(self, known: Truth, condition: Condition | None, rows: int, size: int, top_k: int) -> bool:
        changed = {*self.changes.written, *self.changes.gone}
        left = sum(item not in changed for item in known.ids)
        return (
            known.condition == condition
            and known.near.ids.shape[1] == truth.SPARE * top_k
            and FEWEST * min(size, rows) <= left <= size
            and len(changed) < rows / 2
        )


def drawn(table: Any, column: str, with_vector: int, size: int) -> tuple[Ids, Vectors]:
    """Ids and vectors of up to `size` random rows, the same ones for the same table."""
    rows = table.count_rows()
    draws = min(rows, math.ceil(1.5 * size * rows / with_vector))  # half as many again: rows without vector drop out
    offsets = np.random.default_rng(0).choice(rows, size=draws, replace=False)
    taken = table.take_offsets(sorted(offsets.tolist())).select(["item_id", column]).to_arrow()
    taken = taken.filter(pc.is_valid(taken[column])).sort_by("item_id")
    keep = np.random.default_rng(0).permutation(taken.num_rows)[:size]
    taken = taken.take(keep)
    vectors = taken[column].combine_chunks()
    return taken["item_id"].to_numpy(), vectors.flatten().to_numpy().reshape(len(vectors), -1)


def chosen(labels: pa.Table, known: Condition | None) -> Condition | None:
    """The `kind` or `category` whose share of the rows is nearest to 10 %; None where none keeps 1 to 50 %.

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


SCHEMA = pa.schema(
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
    """The rows of `SCHEMA`."""
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
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_arrow(rows: pa.Table) -> dict[str, Truth]:
    """What `to_arrow` was given, by space."""
    found = {}
    for space in pc.unique(rows["space"]).to_pylist():
        own = rows.filter(pc.equal(rows["space"], space)).combine_chunks()
        column, value = own["column"][0].as_py(), own["value"][0].as_py()
        near, filtered = (
            Near(
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
