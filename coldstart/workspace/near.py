"""The nearest others of each of some queries, as far as they are known for certain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.object_]
_NONE: Any = None


@dataclass(frozen=True)
class Near:
    """The nearest others of each query.

    Attributes:
        ids: object `[Q, K]`, None where there are fewer.
        distances: float32 `[Q, K]` (1 - cosine), rising; inf where there are fewer.
        reach: float32 `[Q]`: everything nearer than this is in the list; inf where the list holds all there is.
    """

    ids: Ids
    distances: Vectors
    reach: Vectors

    def without(self, gone: Collection[str]) -> Near:
        """The lists without some items; they reach as far as before."""
        gone = frozenset(gone)
        out = np.array([item in gone for item in self.ids.flat], bool).reshape(self.ids.shape)
        distances = np.where(out, np.float32(np.inf), self.distances)
        order = np.argsort(distances, axis=1, kind="stable")
        return _cut(np.take_along_axis(self.ids, order, 1), np.take_along_axis(distances, order, 1), self.reach)

    def joined(self, other: Near) -> Near:
        """The nearest of two sets of items that have none in common, as far as both lists reach."""
        keep = self.ids.shape[1]
        ids, distances = np.hstack([self.ids, other.ids]), np.hstack([self.distances, other.distances])
        order = np.argsort(distances, axis=1, kind="stable")
        ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
        dropped = distances[:, keep:].min(axis=1, initial=np.inf)
        reach = np.minimum(np.minimum(self.reach, other.reach), dropped)
        return _cut(ids[:, :keep], distances[:, :keep], reach)

    def sure(self, top_k: int) -> NDArray[np.bool_]:
        """bool `[Q]`: whether the `top_k` nearest are known for certain."""
        known: NDArray[np.bool_] = np.isinf(self.reach) | (np.isfinite(self.distances).sum(axis=1) >= top_k)
        return known

    def take(self, places: NDArray[Any]) -> Near:
        return Near(self.ids[places], self.distances[places], self.reach[places])

    def replaced(self, places: NDArray[Any], new: Near) -> Near:
        """With the lists of some queries by those of `new`, in order."""
        ids, distances, reach = self.ids.copy(), self.distances.copy(), self.reach.copy()
        ids[places], distances[places], reach[places] = new.ids, new.distances, new.reach
        return Near(ids, distances, reach)

    def added(self, other: Near) -> Near:
        """The queries of both, one after the other."""
        return Near(
            np.vstack([self.ids, other.ids]),
            np.vstack([self.distances, other.distances]),
            np.concatenate([self.reach, other.reach]),
        )


def _cut(ids: Ids, distances: Vectors, reach: Vectors) -> Near:
    """Lists that hold nothing from where they are no longer sure."""
    unsure = ~((distances <= reach[:, None]) & np.isfinite(distances))
    return Near(np.where(unsure, _NONE, ids), np.where(unsure, np.float32(np.inf), distances), reach.astype(np.float32))


def nothing(queries: int, keep: int) -> Near:
    """Lists over no items at all."""
    shape = (queries, keep)
    return Near(np.full(shape, None, object), np.full(shape, np.inf, np.float32), np.full(queries, np.inf, np.float32))


def nearest_of(ids: Ids, distances: Vectors, keep: int) -> Near:
    """The nearest of one block: its lists hold all there is where it has no more than `keep`."""
    count = distances.shape[1]
    if not count:
        return nothing(len(distances), keep)
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
