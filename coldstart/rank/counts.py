"""Count what stood before a row: sums by period, the effect of places in a list, vectors of items by who met them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coldstart.rank.features import Rows

Places = NDArray[np.int64]
Floats = NDArray[np.float32]

SHARED_POSITIONS = 100
"""Places beyond this one in a list count as one."""


PositionBias = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Event -> by place in a list, the logit over the mean, and the rate over the mean; float64 [P] each."""


class Counts:
    """Sums of values by key and period, asked for as of a period: [V] of all earlier ones."""

    def __init__(self, keys: Places, periods: Places, values: NDArray[np.float64], last: int) -> None:
        self._width = last + 2
        codes, place = np.unique(keys * self._width + periods, return_inverse=True)
        sums = np.stack([np.bincount(place, column, minlength=len(codes)) for column in values.T], 1)
        self._codes = codes
        self._sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(sums, 0)])

    def before(self, keys: Places, periods: Places) -> NDArray[np.float64]:
        """Sum the values of each key over the periods before, float64 [N, V]."""
        starts, ends = (np.searchsorted(self._codes, keys * self._width + own) for own in (0, periods))
        return np.asarray(self._sums[ends] - self._sums[starts], np.float64)


def position_bias(past: Rows) -> PositionBias:
    """Estimate, for each event and place in a list, the logit over the mean and the rate over the mean, smoothed.

    It is the plain rate by place: where good items stand in front it takes some of what is theirs.
    """
    found = {}
    places = np.minimum(past.positions, SHARED_POSITIONS)
    for event, own in past.labels.items():
        known = ~np.isnan(own) & (places >= 0)
        shown = np.bincount(places[known], minlength=SHARED_POSITIONS + 1).astype(np.float64)
        hits = np.bincount(places[known], own[known], minlength=SHARED_POSITIONS + 1)
        mean = float(np.clip(hits.sum() / max(1.0, shown.sum()), 1e-4, 1 - 1e-4))
        rate = (hits + 100 * mean) / (shown + 100)
        found[event] = (np.log(rate / (1 - rate)) - np.log(mean / (1 - mean)), rate / mean)
    return found


def cooccurrence_vectors(users: Places, items: Places, count: int, dim: int = 32, seed: int = 0) -> Floats:
    """Compute vectors of items by who met them: truncated SVD of the user-item matrix, columns of length 1 an item.

    float32 [count, dim], 0 for an item that fewer than three users met; dim falls where there is too little.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import svds

    height = int(users.max(initial=-1)) + 1
    matrix = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(max(1, height), max(1, count)))
    matrix.data[:] = 1
    met = np.asarray(matrix.sum(0)).ravel()
    matrix = matrix @ diags(np.where(met >= 3, 1 / np.sqrt(np.maximum(met, 1)), 0))
    dim = min(dim, min(matrix.shape) - 1)
    if dim < 1 or matrix.nnz == 0:
        return np.zeros((count, 0), np.float32)
    _, values, right = svds(
        matrix.astype(np.float64), k=dim, v0=np.random.default_rng(seed).normal(size=min(matrix.shape))
    )
    own = (right.T * np.sqrt(np.maximum(values, 0))).astype(np.float32)[:count]
    norms = np.linalg.norm(own, axis=1, keepdims=True)
    return np.where(norms > 1e-6, own / np.maximum(norms, 1e-6), 0).astype(np.float32)
