"""Fit classifiers of visual attributes: picture vector to calibrated probabilities of values, and a threshold.

`words` compares a picture with texts of the values (see `coldstart.embed.zero_shot`); `probe` is ridge regression onto
recorded values (Hoerl & Kennard 1970), every item scored out of its fold. Either is calibrated by a factor of maximum
likelihood; the threshold is the lowest probability of 0.5 or more at and over which values reach the set precision.

Knows nothing of encoders, items or tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coldstart.embed.zero_shot import Flags, Numbers, Vectors, likeliest, lowest_threshold, wilson

Kind = Literal["words", "probe"]
MIN_PROBABILITY = 0.5
"""Least threshold: invented values are often among the many that are a little likely."""
RIDGE_PENALTY = 0.1
"""Penalty of the ridge regression, in variances of a feature; LOG.md compares others."""


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of a classifier on held-out items: each half is evaluated with the calibration of the other.

    Attributes:
        items: number of evaluated items.
        accuracy: share whose likeliest value is true.
        precision: share of the values over the threshold that is true, None where there is none; with its Wilson
            interval at 95 %.
        coverage: share of the items whose true value is over the threshold.
    """

    items: int
    accuracy: float
    precision: float | None
    precision_interval: tuple[float, float] | None
    coverage: float


@dataclass(frozen=True)
class Classifier:
    """Classifier of one attribute of V values on the vectors of one space.

    Attributes:
        space: of its vectors; kind: `words` or `probe`.
        weights: float32 [V, D], and `offsets`: float32 [V]; probabilities are the softmax of
            `vectors @ weights.T + offsets`.
        threshold: least probability of a picture that supports a value; None where none reaches the set precision.
    """

    space: str
    kind: Kind
    weights: Vectors
    offsets: Vectors
    threshold: float | None
    scores: HeldOutScores

    def probabilities(self, vectors: Vectors) -> Vectors:
        """Compute probabilities of unit vectors float32 [N, D]: float32 [N, V], rows of sum one."""
        return softmax(vectors @ self.weights.T + self.offsets)


@dataclass(frozen=True)
class LabelledItems:
    """Items of known value.

    Attributes:
        truth: number of each item's value, int64 [N]; -1 for another value, so that any claim is wrong.
        folds: fold of each item, int64 [N] from 0, like items in one; a probe never scores its training items.
        halves: half of each item, bool [N], likewise.
        shares: share of each value among items of known value, float32 [V], sum one.
    """

    truth: Numbers
    folds: Numbers
    halves: Flags
    shares: Vectors


def smoothed_shares(counts: Numbers) -> Vectors:
    """Compute shares of values from counts int64 [V], each raised by one (Laplace)."""
    shares: Vectors = ((counts + 1) / (counts.sum() + len(counts))).astype(np.float32)
    return shares


def zero_shot_classifier(
    space: str, vectors: Vectors, words: Vectors, items: LabelledItems, precision: float
) -> Classifier:
    """Fit a classifier that compares pictures with texts of the values, weighted by the frequency of values.

    Args:
        vectors: unit vectors of the pictures, float32 [N, D]; words: of the values, float32 [V, D].
    """
    offsets = np.log(items.shares)
    factor, threshold, worth = _calibrated(vectors @ words.T, offsets, items, precision)
    return Classifier(space, "words", words * factor, offsets, threshold, worth)


def probe_classifier(space: str, vectors: Vectors, items: LabelledItems, precision: float) -> Classifier:
    """Fit a probe on the items themselves; arguments as for `zero_shot_classifier`."""
    scores, weights, offsets = ridge(vectors, items.truth, items.folds, len(items.shares))
    factor, threshold, worth = _calibrated(scores, np.zeros(len(offsets), np.float32), items, precision)
    return Classifier(space, "probe", weights * factor, offsets * factor, threshold, worth)


def ridge(vectors: Vectors, truth: Numbers, folds: Numbers, values: int) -> tuple[Vectors, Vectors, Vectors]:
    """Solve ridge regression onto values, a column each, over standardised features.

    Solved in the dual, so that one Gram matrix serves all folds. Items of another value are negatives of all.

    Args:
        vectors: float32 [N, D]; truth, folds: as of `LabelledItems`, two folds at least.

    Returns:
        Out-of-fold scores float32 [N, values]; weights float32 [values, D] and offsets float32 [values] of the
        regression over all items, for raw vectors.
    """
    mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
    deviation[deviation < 1e-9] = 1.0
    rows = ((vectors - mean) / deviation).astype(np.float32)
    products = rows @ rows.T
    targets = (truth[:, None] == np.arange(values)).astype(np.float32)
    scores = np.empty((len(vectors), values), np.float32)
    for fold in np.unique(folds):
        own, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        duals, centre = _duals(products[np.ix_(rest, rest)], targets[rest])
        scores[own] = products[np.ix_(own, rest)] @ duals + centre
    duals, centre = _duals(products, targets)
    weights = (rows.T @ duals).T / deviation
    return scores, weights.astype(np.float32), (centre - weights @ mean).astype(np.float32)


def _duals(products: Vectors, targets: Vectors) -> tuple[Vectors, Vectors]:
    centre: Vectors = targets.mean(axis=0)
    penalty = np.float32(RIDGE_PENALTY * len(targets)) * np.eye(len(targets), dtype=np.float32)
    return np.linalg.solve(products + penalty, targets - centre), centre


def softmax(logits: Vectors) -> Vectors:
    """Compute probabilities of rows float32 [N, V]."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Vectors = shares / shares.sum(axis=1, keepdims=True)
    return found


def _calibrated(
    scores: Vectors, offsets: Vectors, items: LabelledItems, precision: float
) -> tuple[np.float32, float | None, HeldOutScores]:
    """Fit factor and threshold on all items; score those of each half on the other."""
    truth = items.truth
    claims = right = hits = 0
    for chosen, rest in _turns(items.halves):
        factor, threshold = _fit(scores[chosen], offsets, truth[chosen], precision)
        likely = softmax(scores[rest] * factor + offsets)
        right += int((likely.argmax(axis=1) == truth[rest]).sum())
        if threshold is not None:
            over = likely >= np.float32(threshold)
            claims += int(over.sum())
            hits += int((over & (np.arange(len(offsets)) == truth[rest][:, None])).sum())
    share = hits / claims if claims else None
    interval = wilson(hits, claims) if claims else None
    count = len(truth)
    return *_fit(scores, offsets, truth, precision), HeldOutScores(count, right / count, share, interval, hits / count)


def _turns(halves: Flags) -> Iterator[tuple[Flags, Flags]]:
    yield halves, ~halves
    yield ~halves, halves


def _fit(scores: Vectors, offsets: Vectors, truth: Numbers, precision: float) -> tuple[np.float32, float | None]:
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        return np.float32(1), None
    own = truth[known]
    spread = scores[known] - scores[known, own][:, None]
    factor = np.float32(likeliest(spread, offsets - offsets[own][:, None]))
    likely = softmax(scores * factor + offsets)
    right = np.arange(len(offsets)) == truth[:, None]
    could = likely >= MIN_PROBABILITY
    return factor, lowest_threshold(likely[could], right[could], precision)
