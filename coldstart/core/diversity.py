"""Diversify ranked lists greedily: maximal marginal relevance and determinantal point processes. Plain arrays.

Many lists at once, one item of each per step, candidates in rows, best first; equal gains go to the earlier one. Knows
no users and no meaning of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit

Places = NDArray[np.int64]
Reals = NDArray[np.floating[Any]]
Gains = Callable[[int, Places | None], NDArray[np.float64]]
RHO = 0.99
"""Share of similarity off the diagonal of a DPP's kernel: below 1 no item is a full copy of another."""
_EMPTY = 1e-10


def mmr(relevance: Reals, vectors: Reals, k: int, lam: float, window: int = 10, quota: Quota | None = None) -> Places:
    """Select items by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    A step picks the item of the greatest `lam * relevance - (1 - lam) * cos`, where cos is to the most similar of the
    last `window` picked. With `lam` 1 the order is that of relevance.

    Args:
        relevance: [B, M] or [M]; on the scale of a cosine; -inf for candidates that may not be picked.
        vectors: [B, M, D] or [M, D], of any length; a zero vector has cosine 0 with all.
        quota: see `Quota`.

    Returns:
        Places int64 [B, k] or [k], in the order of picking; -1 where no candidate is left.
    """
    scores, rows, single = _rows(relevance, vectors)
    recent = np.full((window, *scores.shape), -np.inf)

    def gains(step: int, last: Places | None) -> NDArray[np.float64]:
        if last is None or lam == 1:
            return lam * scores if lam else np.where(np.isneginf(scores), -np.inf, 0.0)
        recent[(step - 1) % window] = _similarity_to(rows, last)
        weighed = lam * scores if lam else np.where(np.isneginf(scores), -np.inf, 0.0)
        return np.asarray(weighed - (1 - lam) * recent.max(axis=0), np.float64)

    found = _greedy(scores, k, gains, quota)
    return found[0] if single else found


def dpp(relevance: Reals, vectors: Reals, k: int, theta: float, rho: float = RHO, quota: Quota | None = None) -> Places:
    """Select items by greedy MAP of a determinantal point process (Chen, Zhang and Zhou, NeurIPS 2018).

    The kernel is diag(q) S diag(q) with q = exp(theta * relevance) and S = (1 - rho) I + rho C, where C_ij is
    (1 + cos_ij) / 2, so that opposites are apart, and 1 on the diagonal. As the determinant of a scaled kernel is the
    scaled determinant, only S is updated, by Cholesky steps, and 2 theta relevance is added to its logarithm: no power
    overflows.

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
            kernel = rho * (1 + _similarity_to(rows, last)) / 2
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
    """Quota of flagged items: of the first n picked at least `floor(share * n)`, for every n, while any is left.

    Args:
        flagged: bool [B, M] or [M]; share: 0 to 1.
    """

    def __init__(self, flagged: NDArray[np.bool_], share: float) -> None:
        self.flagged, self.share = np.atleast_2d(flagged), share

    def required(self, picked: int) -> int:
        """Compute how many of the first `picked` must be flagged."""
        return int(self.share * picked + 1e-9)


def relevance_weight(dial: float) -> float:
    """Convert a diversity dial, above 0 (relevance) to 1 (diversity alone), to the weight of relevance in `dpp`."""
    return (1 - dial) / (2 * dial)


def intra_list_diversity(vectors: Reals) -> float:
    """Compute intra-list diversity: mean 1 - cos over all pairs of [K, D]; 0 for fewer than two."""
    rows = unit(np.asarray(vectors, np.float64))
    if len(rows) < 2:
        return 0.0
    cosines = rows @ rows.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (len(rows) * (len(rows) - 1)))


def _greedy(scores: NDArray[np.float64], k: int, gains: Gains, quota: Quota | None) -> Places:
    """Pick one item of every list a step, of the greatest gain among the remaining ones."""
    count = len(scores)
    found = np.full((count, k), -1, np.int64)
    free = ~np.isneginf(scores)
    flagged = np.zeros(count, np.int64)
    own = np.arange(count)
    last: Places | None = None
    for step in range(min(k, scores.shape[1])):
        step_gains = np.where(free, gains(step, last), -np.inf)
        if quota is not None:
            owing = (flagged < quota.required(step + 1)) & (free & quota.flagged).any(axis=1)
            step_gains = np.where(owing[:, None] & ~quota.flagged, -np.inf, step_gains)
        last = step_gains.argmax(axis=1)
        some = free[own, last]
        found[some, step] = last[some]
        free[own, last] = False
        if quota is not None:
            flagged += some & quota.flagged[own, last]
    return found


def _rows(relevance: Reals, vectors: Reals) -> tuple[NDArray[np.float64], Reals, bool]:
    scores = np.asarray(relevance, np.float64)
    single = scores.ndim == 1
    rows = unit(np.asarray(vectors))
    return (scores[None], rows[None], True) if single else (scores, rows, False)


def _similarity_to(rows: Reals, last: Places) -> NDArray[np.float64]:
    """Compute the cosine of every candidate to the one picked last, [B, M]."""
    found = np.matmul(rows, rows[np.arange(len(rows)), last][:, :, None])[:, :, 0]
    return np.asarray(found, np.float64)
