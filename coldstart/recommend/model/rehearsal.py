"""Rehearse the launch of new items on known ones, to find how far their scores may spread beside those of warm items.

The moments that `coldstart.recommend.model.calibration` matches say little of the upper ends of the scores, of which
lists are made. So some items are hidden whole, as new ones are, and of every user the latest rows with any item, as a
future. The mapper is fitted on the rest and calibrated as the final one is; then the spread of the hidden items is
scaled by a factor, until their share of the places of the lists is their share of the likes to come. That is what new
items deserve: a share of the places that they have earned, neither a guaranteed one nor none.

The factor is a plain number, and so holds for the final mapper, whose basis is another. Two folds of items are hidden
in turn, since a single one has by luck many of the most liked items, or few; the fit of the other, which the selection
of the mapper has made, gives the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.vectors import spaced
from coldstart.recommend.model import Mapper, Problem, Vectors
from coldstart.recommend.model.calibration import PairedScores, Scored, fit_calibration
from coldstart.recommend.model.scoring import top_k

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TOP_K = 20
FUTURE = 0.2
"""Share of each user's rows that are the future, the latest."""
FEWEST_ITEMS = 100
"""Hidden items with a like to come from which on the shares tell something; with fewer the factor is 1."""
_USERS = 2000  # with lists, and whose scores calibrate
_MOST = 4.0  # of the factor, and of its inverse
_STEPS = 24
_CLOSE = 0.001  # to the deserved share


@dataclass(frozen=True)
class Trial:
    """A mapper fitted on some rows: its problem, and vectors of all items with which lists are made, float32 [I, D]."""

    problem: Problem
    mapper: Mapper
    vectors: Vectors


@dataclass(frozen=True)
class FoldFit:
    """The mapper as it was fitted without the items of a fold, at the places `held`; `problem` is over all items."""

    problem: Problem
    mapper: Mapper
    held: NDArray[np.intp]


@dataclass(frozen=True)
class Rehearsal:
    """Result of a rehearsal.

    Attributes:
        factor: of the spread of cold items, beside that of `fit_calibration`; 1 where there are too few likes to judge.
        deserved: share of the likes to come that are of hidden items; None where there are too few.
        before, after: share of the places that hidden items have with the factor 1, and with `factor`.
        likes: likes to come, of hidden items and others; `users`: with lists, both over the two parts.
    """

    factor: float = 1.0
    deserved: float | None = None
    before: float | None = None
    after: float | None = None
    likes: int = 0
    users: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Part:
    """Lists to make with one part hidden: of K items with vectors [K, D], `new` bool [K], and users [B, D].

    Attributes:
        pair: scores by which a calibration is fitted.
        seen: csr [B, K]: items that a user has met before the future.
        likes: likes to come of each item by these users, [K].
    """

    pair: PairedScores
    items: Vectors
    new: NDArray[np.bool_]
    users: Vectors
    seen: csr_matrix
    likes: NDArray[np.float64]


def rehearse(
    rows: Interactions,
    folds: Sequence[FoldFit],
    fit: Callable[[Interactions], Trial],
    *,
    min_weight: float | None = None,
    seed: int = 0,
) -> Rehearsal:
    """Rehearse with the selected mapper.

    Args:
        rows: rows of the training window.
        folds: of which two are hidden, one after the other; with a single one nothing is rehearsed.
        fit: fits the mapper on some of the rows, over the same items.
        min_weight: least weight of a like; None: above 0.
    """
    later = latest_rows(rows, FUTURE, seed)
    before = rows.where(~later)
    met = before.matrix()
    relevant = rows.where(later).positive(min_weight).matrix()
    relevant = (relevant - relevant.multiply(met)).tocsr()
    relevant.eliminate_zeros()
    hidden = [np.isin(np.arange(len(rows.item_ids)), one.held) for one in folds[:2]]
    liked = np.diff(relevant.tocsc().indptr) > 0
    if len(hidden) < 2 or (hidden[0] | hidden[1])[liked].sum() < FEWEST_ITEMS:
        return Rehearsal()
    parts = []
    for new, other in zip(hidden, reversed(folds[:2]), strict=True):
        trial = fit(before.where(~new[before.items]))
        parts.append(_part(new, other, trial, relevant, met))
    total = int(sum(one.likes.sum() for one in parts))
    on_new = int(sum(one.likes[one.new].sum() for one in parts))
    if not 0 < on_new < total:
        return Rehearsal()
    deserved = on_new / total
    low, high = 1 / _MOST, _MOST
    for _ in range(_STEPS):
        factor = (low * high) ** 0.5
        after = _share(parts, factor)
        if abs(after - deserved) < _CLOSE:
            break
        low, high = (factor, high) if after < deserved else (low, factor)
    return Rehearsal(factor, deserved, _share(parts, 1.0), after, total, sum(len(one.users) for one in parts))


def latest_rows(rows: Interactions, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Mark the latest share of each user's rows, of equal times by chance, bool [N]; none of a single row."""
    order = np.lexsort((np.random.default_rng(seed).permutation(len(rows)), rows.times, rows.users))
    counts = np.bincount(rows.users, minlength=len(rows.user_ids))
    own = counts[rows.users[order]]
    number = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows.users[order]]
    found = np.zeros(len(rows), bool)
    found[order] = (number >= own - np.maximum(np.round(share * own), 1)) & (own > 1)
    return found


def paired_scores(fold: FoldFit, final: Trial) -> PairedScores:
    """Score the items that a fold held out, and those that both fits know, by both for the same users."""
    known = np.any(fold.problem.features != 0, axis=1)
    histories = final.problem.matrix
    held = np.zeros(len(known), bool)
    held[fold.held] = True
    counted = [np.bincount(one.indices, minlength=len(known)) > 0 for one in (fold.problem.matrix, histories)]
    trained = np.flatnonzero(counted[0] & counted[1] & known & ~held)
    histories = _without(histories, held)
    histories = histories[spaced(np.flatnonzero(np.diff(histories.indptr)), _USERS)]
    places, fold_items = np.flatnonzero(held & known), fold.mapper.items(fold.problem.features)
    return PairedScores(
        Scored(fold.mapper.users(histories), fold_items[places], fold_items[trained]),
        Scored(final.mapper.users(histories), final.vectors[places], final.vectors[trained]),
    )


def _part(new: NDArray[np.bool_], other: FoldFit, trial: Trial, relevant: csr_matrix, met: csr_matrix) -> _Part:
    histories = trial.problem.matrix
    some = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(histories.indptr) > 0))
    users = spaced(some, _USERS)
    known = np.flatnonzero(np.any(trial.problem.features != 0, axis=1))
    likes = np.asarray(relevant[users].sum(axis=0), np.float64).ravel()[known]
    vectors = trial.mapper.users(histories[users])
    pair = paired_scores(other, trial)
    return _Part(pair, trial.vectors[known], new[known], vectors, met[users][:, known], likes)


def _share(parts: Sequence[_Part], factor: float) -> float:
    """Compute the share of the places of the lists that hidden items have."""
    shown = places = 0
    for one in parts:
        calibration = fit_calibration([one.pair], factor)
        items = calibration.items(one.items, one.new)
        lists, _ = top_k(calibration.users(one.users), items, TOP_K, exclude=one.seen)
        filled = lists[lists >= 0]
        shown, places = shown + int(one.new[filled].sum()), places + len(filled)
    return shown / max(places, 1)


def _without(matrix: csr_matrix, items: NDArray[np.bool_]) -> csr_matrix:
    """Remove the entries of items, bool [I]."""
    found = matrix.multiply(~items[None, :]).tocsr()
    found.eliminate_zeros()
    return found
