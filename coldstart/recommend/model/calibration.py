"""Calibrate the scores of cold items beside those of warm ones, in the basis of the final fit.

A warm item is scored by a mapper that was fitted on its likes, a cold one by a mapper that never saw it: their scores
differ in mean and spread for no reason of taste, and a mixed list would be cold or warm by that alone. Items held out
in a fold show by how much, since they are scored twice for the same histories: as cold ones by the mapper of the fold,
and as warm ones by the final mapper. No vector of a fold enters the result. The mapper of a fold has dimensions of its
own, as many as its own data carries and turned and scaled as its own fit came out; what both fits share are scores. So:

- Scores of a user under both mappers are brought to one unit by the items that both were fitted on. The spread of the
  held-out items then has the ratio `scale`, warm to cold, in the median over users.
- What their mean differs by is a number for each user and fold. It becomes a vector of the final basis by ridge
  regression on the final vectors of these users, which shrinks it towards zero: few users move the offset by little.
  Spread is scaled around the mean of the held-out items as the final mapper scores them.

Comparing the same items leaves out what they are about. It does not know whether later items are as good as earlier
ones. Equal moments do not make equal ends, of which lists are made: `coldstart.recommend.model.rehearsal` finds the
factor of the spread by which new items have their share of the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.recommend.model import Arrays, Vectors

_MOST = 10.0  # the scale never makes more of a cold vector, nor less than one by this
_RIDGE = 0.1  # of the mean variance of a direction that the users span
_EVEN = 1e-6  # share of the scores' size under which a spread is rounding


@dataclass(frozen=True)
class Calibration:
    """Calibration of cold items: v becomes `scale v + offset`, with `shift` in one more dimension; warm ones stay.

    For each user all cold items move by one amount, so that their order stays.

    Attributes:
        shift: amount that is the same for every user; `fit_calibration` leaves it 0.
        offset: float32 [D]; or [1], a zero, for any number of dimensions.
    """

    scale: float
    shift: float
    offset: Vectors

    @classmethod
    def none(cls) -> Calibration:
        """Build a calibration that leaves all scores as they are."""
        return cls(1.0, 0.0, np.zeros(1, np.float32))

    def items(self, vectors: Vectors, cold: NDArray[np.bool_]) -> Vectors:
        """Calibrate item vectors, float32 [N, D] -> float32 [N, D + 1]; `cold` bool [N]."""
        chosen = np.asarray(cold)[:, None]
        moved = np.where(chosen, np.float32(self.scale) * vectors + self.offset, vectors)
        return np.concatenate([moved, np.where(chosen, self.shift, 0.0)], axis=1).astype(np.float32)

    def users(self, vectors: Vectors) -> Vectors:
        """Extend user vectors, float32 [B, D] -> float32 [B, D + 1]: 1 in the last dimension; zeros stay zeros."""
        some = np.any(vectors != 0, axis=1, keepdims=True)
        return np.concatenate([vectors, some], axis=1).astype(np.float32)

    def arrays(self) -> Arrays:
        """Return the arrays that `restore_calibration` reads."""
        return {"numbers": np.array([self.scale, self.shift], np.float64), "offset": self.offset}


def restore_calibration(arrays: Arrays) -> Calibration:
    """Restore a calibration from its arrays."""
    scale, shift = np.asarray(arrays["numbers"], np.float64)
    return Calibration(float(scale), float(shift), np.asarray(arrays["offset"], np.float32))


@dataclass(frozen=True)
class Scored:
    """Vectors of one fit: users [U, D], the items held out in a fold [H, D], and those the fold is fitted on [T, D]."""

    users: Vectors
    held: Vectors
    trained: Vectors


@dataclass(frozen=True)
class PairedScores:
    """Same users, by the same histories, and same items in the mapper of a fold and in the final one."""

    fold: Scored
    final: Scored


def fit_calibration(folds: Sequence[PairedScores], factor: float = 1.0) -> Calibration:
    """Fit a calibration in the basis of the final vectors; the method is in the docstring of the module.

    Args:
        factor: of the spread of cold items, beside the one that matches moments; see `rehearsal.rehearse`.

    Returns:
        `Calibration.none()` where no fold has two items of each sort and a user whose scores of them differ.
    """
    ratios, gaps, users, warm = [], [], [], []
    for one in folds:
        if min(len(one.fold.held), len(one.fold.trained)) < 2:
            continue
        (fold_held, fold_trained), (final_held, final_trained) = _moments(one.fold), _moments(one.final)
        some = fold_held.varies & fold_trained.varies & final_held.varies & final_trained.varies
        unit = final_trained.spread[some] / fold_trained.spread[some]
        ratios.append(final_held.spread[some] / (unit * fold_held.spread[some]))
        as_cold = unit * (fold_held.mean - fold_trained.mean)[some]
        gaps.append(as_cold - (final_held.mean - final_trained.mean)[some])
        users.append(one.final.users[some].astype(np.float64))
        warm.append(one.final.held)
    if not sum(map(len, ratios)):
        return Calibration.none()
    scale = float(np.clip(np.median(np.concatenate(ratios)), 1 / _MOST, _MOST))
    gap = _ridge(np.concatenate(users), np.concatenate(gaps))
    middle = np.concatenate(warm).mean(axis=0, dtype=np.float64)
    spread = scale * factor
    return Calibration(spread, 0.0, ((1 - spread) * middle - scale * gap).astype(np.float32))


@dataclass(frozen=True)
class _Moments:
    """Mean and standard deviation of each user's scores, float64 [U], and where they differ at all, bool [U]."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    varies: NDArray[np.bool_]


def _moments(scored: Scored) -> tuple[_Moments, _Moments]:
    """Compute the moments of the scores of `held` and of `trained`."""
    users = scored.users.astype(np.float64)
    return _moments_of(users, scored.held), _moments_of(users, scored.trained)


def _moments_of(users: NDArray[np.float64], items: Vectors) -> _Moments:
    middle = items.mean(axis=0, dtype=np.float64)
    centred = items - middle
    squares = np.einsum("ud,ud->u", users @ (centred.T @ centred / len(items)), users)
    mean, spread = users @ middle, np.sqrt(np.maximum(squares, 0))
    return _Moments(mean, spread, spread > _EVEN * np.linalg.norm(users, axis=1) * np.abs(items).max(initial=1e-12))


def _ridge(users: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve users @ x = values for x [D] with a penalty of `_RIDGE` mean variances of a direction."""
    products = users.T @ users
    penalty = _RIDGE * np.trace(products) / min(users.shape)
    products[np.diag_indices_from(products)] += penalty
    return np.asarray(np.linalg.solve(products, users.T @ values), np.float64)
