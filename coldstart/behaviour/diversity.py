"""Lists that do not say one thing ten times: greedy re-ranking of candidates by relevance against likeness.

Both ways take many lists at once, pick one item of each list a step, and can hold a quota: of the first n at least so
many of a flagged kind. Candidates stand in rows, best first, and equal gains go to the earlier one.
Knows nothing of users; what likeness means is in the vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.int64]
Gains = Callable[[int, Places | None], NDArray[np.float64]]

RHO = 0.99
"""Share of likeness off the diagonal of a DPP's kernel: below 1 no two items are wholly alike, and none is shut out."""
_EMPTY = 1e-10


def mmr(relevance: Floats, vectors: Floats, k: int, lam: float, window: int = 10, quota: Quota | None = None) -> Places:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    A step picks the item of the greatest `lam * relevance - (1 - lam) * cos`, where cos is to the most alike of the
    last `window` picked. With `lam` 1 the order is that of relevance.

    Args:
        relevance: [B, M] or [M]; on the scale of a cosine; -inf for what may not be picked.
        vectors: [B, M, D] or [M, D], of any length; a zero vector is like nothing.
        quota: see `Quota`.

    Returns:
        Places int64 [B, k] or [k], in the order of picking; -1 where there is nothing left to pick.
    """
    scores, rows, single = _rows(relevance, vectors)
    recent = np.full((window, *scores.shape), -np.inf)

    def gains(step: int, last: Places | None) -> NDArray[np.float64]:
        if last is None or lam == 1:
            return lam * scores if lam else np.where(np.isneginf(scores), -np.inf, 0.0)
        recent[(step - 1) % window] = _likeness(rows, last)
        weighed = lam * scores if lam else np.where(np.isneginf(scores), -np.inf, 0.0)
        return np.asarray(weighed - (1 - lam) * recent.max(axis=0), np.float64)

    found = _greedy(scores, k, gains, quota)
    return found[0] if single else found


def dpp(
    relevance: Floats, vectors: Floats, k: int, theta: float, rho: float = RHO, quota: Quota | None = None
) -> Places:
    """Greedy MAP of a determinantal point process (Chen, Zhang and Zhou, NeurIPS 2018), by Cholesky updates.

    The kernel is diag(q) S diag(q) with q = exp(theta * relevance) and S = (1 - rho) I + rho C, where C_ij is
    (1 + cos_ij) / 2, so that opposites are apart, and 1 on the diagonal. As the determinant of a scaled kernel is the
    scaled determinant, S alone is updated and 2 theta relevance is added to its logarithm: no power overflows.

    Args, returns: as for `mmr`; once the volume is used up, by relevance.
    """
    scores, rows, single = _rows(relevance, vectors)
    left = np.ones(scores.shape)
    basis = np.zeros((*scores.shape, k))
    allowed = ~np.isneginf(scores)
    wanted = np.where(allowed, scores, 0.0)

    def gains(step: int, last: Places | None) -> NDArray[np.float64]:
        if last is not None:
            own = np.arange(len(scores))
            kernel = rho * (1 + _likeness(rows, last)) / 2
            kernel[own, last] = 1
            known = np.einsum("bmk,bk->bm", basis[:, :, : step - 1], basis[own, last, : step - 1])
            length = np.sqrt(np.maximum(left[own, last], _EMPTY))[:, None]
            basis[:, :, step - 1] = (kernel - known) / length
            left[:] = left - basis[:, :, step - 1] ** 2
        volume = np.log(np.maximum(left, _EMPTY))
        return np.where(allowed, volume + 2 * theta * wanted, -np.inf)

    found = _greedy(scores, k, gains, quota)
    return found[0] if single else found


class Quota:
    """Of the first n picked, at least `floor(share * n)` are flagged, for every n, as long as any is left.

    Args:
        flagged: bool [B, M] or [M]; share: 0 to 1.
    """

    def __init__(self, flagged: NDArray[np.bool_], share: float) -> None:
        self.flagged, self.share = np.atleast_2d(flagged), share

    def due(self, picked: int) -> int:
        """How many must be flagged once so many are picked."""
        return int(self.share * picked + 1e-9)


def theta_of(dial: float) -> float:
    """Weight of relevance in `dpp` for a dial from near 0 (relevance) to 1 (diversity alone)."""
    return (1 - dial) / (2 * dial)


def spread(vectors: Floats) -> float:
    """Intra-list diversity: mean 1 - cos over all pairs of [K, D]; 0 for fewer than two."""
    rows = _unit(np.asarray(vectors, np.float64))
    if len(rows) < 2:
        return 0.0
    cosines = rows @ rows.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (len(rows) * (len(rows) - 1)))


def _greedy(scores: NDArray[np.float64], k: int, gains: Gains, quota: Quota | None) -> Places:
    """One pick of every list a step, of the greatest gain among what is left."""
    count = len(scores)
    found = np.full((count, k), -1, np.int64)
    free = ~np.isneginf(scores)
    flagged = np.zeros(count, np.int64)
    own = np.arange(count)
    last: Places | None = None
    for step in range(min(k, scores.shape[1])):
        worth = np.where(free, gains(step, last), -np.inf)
        if quota is not None:
            owing = (flagged < quota.due(step + 1)) & (free & quota.flagged).any(axis=1)
            worth = np.where(owing[:, None] & ~quota.flagged, -np.inf, worth)
        last = worth.argmax(axis=1)
        some = free[own, last]
        found[some, step] = last[some]
        free[own, last] = False
        if quota is not None:
            flagged += some & quota.flagged[own, last]
    return found


def _rows(relevance: Floats, vectors: Floats) -> tuple[NDArray[np.float64], Floats, bool]:
    scores = np.asarray(relevance, np.float64)
    single = scores.ndim == 1
    rows = _unit(np.asarray(vectors))
    return (scores[None], rows[None], True) if single else (scores, rows, False)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = vectors / np.where(norms > 0, norms, 1)
    return found


def _likeness(rows: Floats, last: Places) -> NDArray[np.float64]:
    """Cosine of every candidate to the one that was picked last, [B, M]."""
    found = np.matmul(rows, rows[np.arange(len(rows)), last][:, :, None])[:, :, 0]
    return np.asarray(found, np.float64)
