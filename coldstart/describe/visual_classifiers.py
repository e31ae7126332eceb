"""Whether a picture shows what is claimed of it: scores made probabilities, and one that is enough for a ground.

A judge maps a picture's vector to a score of each value of one attribute. `words` likens it to the values in words
(see `coldstart.embed.zero_shot`); `probe` is ridge regression onto the values that other items are known to have
(Hoerl & Kennard 1970), every item scored by one that has not seen it. Either is turned into probabilities by a factor
fitted by likelihood; the threshold is the lowest of a half or more at and over which so large a share of the values is
true as was asked for.

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
"""No picture is the ground of what it shows less likely than not, however often that is right on the whole: what a
writer makes up is often one of the many values that are a little likely."""
RIDGE_PENALTY = 0.1
"""What ridge regression adds to the variance of each number; LOG.md has what others gave."""


@dataclass(frozen=True)
class HeldOutScores:
    """What a judge is worth on items that its calibration never saw: each half judged by the other.

    Attributes:
        items: how many were judged.
        accuracy: share whose likeliest value is the true one.
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
    """One space's word on one attribute of V values.

    Attributes:
        space: whose vectors it takes; kind: how it was made.
        weights: float32 [V, D], and `offsets`: float32 [V]; the softmax of `vectors @ weights.T + offsets` is what it
            holds for likely.
        threshold: probability that makes a picture a ground; None where none reaches the wanted precision.
    """

    space: str
    kind: Kind
    weights: Vectors
    offsets: Vectors
    threshold: float | None
    scores: HeldOutScores

    def probabilities(self, vectors: Vectors) -> Vectors:
        """Of unit vectors float32 [N, D]: float32 [N, V], rows of sum one."""
        return softmax(vectors @ self.weights.T + self.offsets)


@dataclass(frozen=True)
class LabelledItems:
    """Items whose value is known.

    Attributes:
        truth: number of each item's value, int64 [N]; -1 where it is none of them, so that any claim is wrong.
        folds: the fold of each item, int64 [N] from 0, like items in one; what a probe learns from is never judged.
        halves: which half of the items each is in, bool [N], likewise.
        shares: how often each value is the true one, over all items that are known, float32 [V], sum one.
    """

    truth: Numbers
    folds: Numbers
    halves: Flags
    shares: Vectors


def smoothed_shares(counts: Numbers) -> Vectors:
    """Shares of values from how often each was seen, int64 [V], as if each had been seen once more (Laplace)."""
    shares: Vectors = ((counts + 1) / (counts.sum() + len(counts))).astype(np.float32)
    return shares


def zero_shot_classifier(
    space: str, vectors: Vectors, words: Vectors, judged: LabelledItems, precision: float
) -> Classifier:
    """Pictures likened to the values in words, the more frequent ones the likelier.

    Args:
        vectors: unit vectors of the pictures, float32 [N, D]; words: of the values, float32 [V, D].
    """
    offsets = np.log(judged.shares)
    factor, threshold, worth = _calibrated(vectors @ words.T, offsets, judged, precision)
    return Classifier(space, "words", words * factor, offsets, threshold, worth)


def probe_classifier(space: str, vectors: Vectors, judged: LabelledItems, precision: float) -> Classifier:
    """A probe that learns from the items themselves; arguments as for `by_words`."""
    scores, weights, offsets = ridge(vectors, judged.truth, judged.folds, len(judged.shares))
    factor, threshold, worth = _calibrated(scores, np.zeros(len(offsets), np.float32), judged, precision)
    return Classifier(space, "probe", weights * factor, offsets * factor, threshold, worth)


def ridge(vectors: Vectors, truth: Numbers, folds: Numbers, values: int) -> tuple[Vectors, Vectors, Vectors]:
    """Ridge regression onto the values, a column each, over numbers of mean zero and deviation one.

    Solved over pairs of items, so that one matrix of products serves all folds. Items of no value are taken for
    examples of none.

    Args:
        vectors: float32 [N, D]; truth, folds: as of `Judged`, two folds at least.

    Returns:
        Scores of each item by a regression over the other folds, float32 [N, values]; weights float32 [values, D] and
        offsets float32 [values] of the one over all, for vectors as they are.
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
    """Probabilities of rows float32 [N, V]."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Vectors = shares / shares.sum(axis=1, keepdims=True)
    return found


def _calibrated(
    scores: Vectors, offsets: Vectors, judged: LabelledItems, precision: float
) -> tuple[np.float32, float | None, HeldOutScores]:
    """The factor and the threshold that all items give, and what those of one half are worth on the other."""
    truth = judged.truth
    claims = right = hits = 0
    for chosen, rest in _turns(judged.halves):
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
