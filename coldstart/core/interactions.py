"""Hold user-item interactions as plain arrays, as fits, recommendations and evaluations share them.

Knows no tables and no files. Rows are in no order; a user may have several rows with an item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_DETAIL = 200
"""Characters that are stored of a value for which a row of a log was rejected."""


@dataclass(frozen=True)
class Interactions:
    """User-item interactions: N rows over named users and items.

    Attributes:
        user_ids, item_ids: names, without repetition; a name may have no row.
        users, items: places in those names, int32 [N].
        times: seconds since 1970 in UTC, int64 [N].
        weights: strength of a row in favour of its item, float32 [N]; 0 or less: none, or against it.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.users)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Interactions:
        """Select rows, over the same names."""
        columns = {name: getattr(self, name)[chosen] for name in ("users", "items", "times", "weights")}
        return replace(self, **columns)

    def over(self, item_ids: Sequence[str], user_ids: Sequence[str] | None = None) -> Interactions:
        """Index the rows over other names, in that order; leaves out rows of names that are not among them."""
        items, own_items = _places(self.item_ids, item_ids), self.items
        users = None if user_ids is None else _places(self.user_ids, user_ids)
        kept = items[own_items] >= 0
        if users is not None:
            kept &= users[self.users] >= 0
        found = self.where(kept)
        return replace(
            found,
            item_ids=tuple(item_ids),
            items=items[found.items],
            user_ids=self.user_ids if user_ids is None else tuple(user_ids),
            users=found.users if users is None else users[found.users],
        )

    def positive(self, min_weight: float | None = None) -> Interactions:
        """Select positive rows: weight at least `min_weight`; by default above 0."""
        return self.where(self.weights > 0 if min_weight is None else self.weights >= min_weight)

    def matrix(self, *, weighted: bool = False) -> csr_matrix:
        """Build a float32 matrix [users, items]: 1 where a row exists, or the sum of its rows' weights."""
        from scipy.sparse import csr_matrix

        values = self.weights if weighted else np.ones(len(self), np.float32)
        shape = (len(self.user_ids), len(self.item_ids))
        found = csr_matrix((values, (self.users, self.items)), shape=shape, dtype=np.float32)
        found.sum_duplicates()
        if not weighted:
            found.data[:] = 1
        return found

    def counts(self) -> NDArray[np.int64]:
        """Count the users of each item, int64 [items]."""
        found: NDArray[np.int64] = self.matrix().getnnz(axis=0).astype(np.int64)
        return found


def interactions(
    users: Sequence[str],
    items: Sequence[str],
    times: Sequence[int] | NDArray[np.int64] | None = None,
    weights: Sequence[float] | NDArray[np.float32] | None = None,
) -> Interactions:
    """Build interactions from names, which come out sorted. Without times all are 0, without weights 1."""
    user_ids, user_places = np.unique(np.asarray(users, dtype=object).astype(str), return_inverse=True)
    item_ids, item_places = np.unique(np.asarray(items, dtype=object).astype(str), return_inverse=True)
    count = len(user_places)
    return Interactions(
        tuple(user_ids.tolist()),
        tuple(item_ids.tolist()),
        user_places.astype(np.int32),
        item_places.astype(np.int32),
        np.zeros(count, np.int64) if times is None else np.asarray(times, np.int64),
        np.ones(count, np.float32) if weights is None else np.asarray(weights, np.float32),
    )


def _places(names: Sequence[str], among: Sequence[str]) -> NDArray[np.int32]:
    """Find the place of each name among others, -1 where it is absent: int32 [names]."""
    known = {name: place for place, name in enumerate(among)}
    return np.array([known.get(name, -1) for name in names], np.int32)
