"""Find the nearest of unit vectors in memory: all compared, or by an HNSW graph; under a condition or without."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.store.ground_truth import Vectors
from coldstart.store.memory_graph import TIES, MemoryGraph, Rows, depth_of

SCANNED = 20_000
"""Rows that meet a condition up to which all of them are compared; beyond it the graph is searched among them."""
BLOCK_BYTES = 128 << 20
"""Vectors of such rows that are kept together, of the conditions that were asked for last."""
_GATHERED = 8
"""Vectors of allowed rows are copied together to be compared, where they are fewer than one in so many."""
_CHEAPER = 10
"""Comparing a row with a query costs a tenth of what finding one more by the graph does."""
_CONDITIONS = 16
_CELLS = 1 << 23
"""Distances in memory at a time where all rows are compared: 32 MiB."""
_TIE = 1e-5
"""Distances of one pair differ by less, however the sums are ordered."""


@dataclass(frozen=True)
class Allowed:
    """Rows that may be found.

    Attributes:
        rows: bool `[S]`.
        few: int64, these rows, and block: their vectors, where they are few; else None.
    """

    rows: NDArray[np.bool_]
    count: int
    few: Rows | None
    block: Vectors | None


class HeldVectors:
    """Unit vectors of one space of a publication; safe to use from many threads.

    A vector of zeros has no direction: it is never found, and as a query it finds nothing, as in the store.

    Attributes:
        units: float32 `[S, D]`; rows that are of no item of the publication are of zeros.
        place_of: int64 `[S]`, place of the item of each row, -1 for none.

    Args:
        count: items of the publication.
        graph: over `units`; without it, all are compared.
    """

    def __init__(self, units: Vectors, place_of: Rows, count: int, graph: MemoryGraph | None = None) -> None:
        self.units, self.place_of, self.graph = units, place_of, graph
        alive = place_of >= 0
        self._row_of = np.full(count, -1, np.int64)
        self._row_of[place_of[alive]] = np.flatnonzero(alive)
        self._lock = threading.Lock()
        self._allowed: OrderedDict[str, Allowed] = OrderedDict()
        alive &= units.any(axis=1)
        self._alive = None if alive.all() else self._allow(alive, keep=True)

    def at(self, places: NDArray[Any]) -> Vectors:
        """Read the vectors of places, float32 `[N, D]`; NaN for an item without one."""
        rows = self.rows_of(places)
        own = self.units[rows] if len(self.units) else np.empty((len(rows), self.units.shape[1]), np.float32)
        own[rows < 0] = np.nan
        return own

    def rows_of(self, places: NDArray[Any]) -> Rows:
        """Find the rows of places, -1 for an item without a vector."""
        return np.asarray(self._row_of[places])

    def nearest(
        self, queries: Vectors, top_k: int, where: str | None, meeting: NDArray[np.bool_] | None, *, exact: bool
    ) -> list[Rows]:
        """Find rows among which are the `top_k` nearest of each query, with all that are as near as the last.

        Args:
            queries: float32 `[Q, D]`.
            where: name of the condition, by which its rows are kept; meeting: places that meet it, bool `[N]`.
            exact: compare all rows; without it, so is done where there is no graph, or few meet the condition.
        """
        queries = unit(np.asarray(queries, np.float32))
        directed: NDArray[np.bool_] = np.any(queries, axis=1)
        if not directed.all():
            some = bool(directed.any())
            answers = iter(self.nearest(queries[directed], top_k, where, meeting, exact=exact) if some else ())
            return [next(answers) if one else np.empty(0, np.int64) for one in directed.tolist()]
        allowed = self._alive if where is None or meeting is None else self._meeting(where, meeting)
        count = len(self.units) if allowed is None else allowed.count
        share = count / max(1, len(self.units))
        if (
            exact
            or self.graph is None
            or (allowed is not None and allowed.few is not None)
            or _CHEAPER * depth_of(top_k, share) > count
        ):
            return self._scanned(queries, top_k, allowed)
        rows = self.graph.search(queries, top_k, share)
        # those that are allowed among the nearest of all are the nearest of the allowed; else there are too few
        known = np.asarray(rows >= 0 if allowed is None else (rows >= 0) & allowed.rows[rows])
        found = [own[kept][: top_k + TIES] for own, kept in zip(rows, known, strict=True)]
        short = [place for place, own in enumerate(found) if len(own) < min(top_k, count)]
        if short:
            for place, own in zip(short, self._scanned(queries[short], top_k, allowed), strict=True):
                found[place] = own
        return found

    def _scanned(self, queries: Vectors, top_k: int, allowed: Allowed | None) -> list[Rows]:
        """Compare each query with all rows that are allowed."""
        few = None if allowed is None else allowed.few
        block = self.units if allowed is None or allowed.block is None else allowed.block
        if allowed is not None and few is None and _GATHERED * allowed.count < len(self.units):
            few = np.flatnonzero(allowed.rows)
            block = self.units[few]
        barred = None if allowed is None or few is not None else ~allowed.rows
        found: list[Rows] = []
        for start in range(0, len(queries), step := max(1, _CELLS // max(1, len(block)))):
            distances = 1 - queries[start : start + step] @ block.T
            if barred is not None:
                distances[:, barred] = np.inf
            for row in distances:
                bound = np.partition(row, top_k - 1)[top_k - 1] + _TIE if top_k < len(row) else np.inf
                near = np.flatnonzero((row <= bound) & np.isfinite(row))
                found.append(near if few is None else few[near])
        return found

    def _meeting(self, where: str, meeting: NDArray[np.bool_]) -> Allowed:
        with self._lock:
            if where in self._allowed:
                self._allowed.move_to_end(where)
                return self._allowed[where]
        alive = self.place_of >= 0 if self._alive is None else self._alive.rows
        own = self._allow(alive & meeting[self.place_of])
        with self._lock:
            self._allowed[where] = own
            held = sum(0 if one.block is None else one.block.nbytes for one in self._allowed.values())
            while len(self._allowed) > 1 and (len(self._allowed) > _CONDITIONS or held > BLOCK_BYTES):
                block = self._allowed.popitem(last=False)[1].block
                held -= 0 if block is None else block.nbytes
        return own

    def _allow(self, rows: NDArray[np.bool_], *, keep: bool = False) -> Allowed:
        """Prepare a filter; keep: of all searches, whose rows are not compared one by one for being few."""
        count = int(rows.sum())
        is_few = count <= SCANNED and (self.graph is not None or 4 * count < len(rows)) and not keep
        few = np.flatnonzero(rows) if is_few else None
        return Allowed(rows, count, few, None if few is None else self.units[few])


def rank_rows(units: Vectors, queries: Vectors, rows: Rows, order_of: Rows, top_k: int) -> tuple[Rows, Vectors]:
    """Rank rows of each query by distance, then by `order_of`; the best `top_k` and their distances, `[Q, top_k]`.

    Distances are summed row by row: in a product of matrices, equal vectors may come out a rounding apart.

    Args:
        queries: unit vectors, float32 `[Q, D]`.
        rows: int64 `[Q, K]`.
        order_of: of each of `rows`, by which equal distances are ordered, int64 `[Q, K]`.
    """
    distances = 1 - np.einsum("qkd,qd->qk", units[rows], queries)
    order = np.lexsort((order_of, distances), axis=-1)[:, :top_k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1)


def in_batches(candidates: Sequence[Rows], dim: int) -> Iterator[tuple[slice, Rows]]:
    """Join the candidates of neighbouring queries that have equally many, as far as their vectors fit in memory:
    the queries, and their rows `[Q, K]`."""
    start = 0
    while start < len(candidates):
        most = max(1, _CELLS // max(1, dim * len(candidates[start])))
        end = start + 1
        while end < len(candidates) and end - start < most and len(candidates[end]) == len(candidates[start]):
            end += 1
        yield slice(start, end), np.stack(candidates[start:end])
        start = end
