"""Fusion of several channels into one score: standardised, weighted, and over those channels alone that a pair has.

A channel is one way to compare a video with a product. Its cosines are standardised over the candidates of the query,
so that channels with wide and narrow spreads meet on one scale, and the score is the weighted mean over the channels
that are present: a product without a picture is scored by its words, and not punished by a zero. Weights are fitted on
known pairs. Plain arrays; knows nothing of items, spaces or stores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.ranking import TIE, Interval, bootstrap, paired

Scores = NDArray[np.float32]
Weights = NDArray[np.float64]

TOP = 5
"""Places that count as found when weights are fitted."""

STEP = 10
"""Parts of a whole in which weights are searched."""

_FULL_GRID = 4  # channels up to which every combination is tried: 286 of four, 1,001 of five
_BLOCK = 1 << 24  # scores in memory at a time: 64 MiB


def standardise(cosines: Scores, reference: Scores | None = None) -> Scores:
    """Subtract a mean from each row and divide by a deviation; NaN stays, 0 where there is no deviation.

    Args:
        cosines: float32 [C, N], a row a channel, NaN where a candidate lacks it.
        reference: float32 [C, M], cosines of those whose mean and deviation count; by default the candidates' own.
    """
    others = cosines if reference is None else reference
    present = np.isfinite(others)
    count = np.maximum(present.sum(1, keepdims=True), 1)
    values = np.where(present, others, 0).astype(np.float64)
    mean = values.sum(1, keepdims=True) / count
    deviation = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(1, keepdims=True) / count)
    return np.asarray((cosines - mean) / np.where(deviation > TIE, deviation, np.inf), np.float32)


def combine(standardised: Scores, weights: Weights) -> Scores:
    """Average the channels that a candidate has, by weight; NaN for one that has none of any weight.

    Args:
        standardised: float32 [C, N], NaN where a candidate lacks a channel.
        weights: [C] or [G, C], not negative.

    Returns:
        float32 [N] or [G, N].
    """
    present = np.isfinite(standardised).astype(np.float32)
    own = weights.astype(np.float32)
    total = own @ present
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (own @ np.where(present > 0, standardised, 0)) / total, np.nan).astype(np.float32)


@dataclass(frozen=True)
class KnownVideo:
    """One video with the products that it shows.

    Attributes:
        group: of the split: its id, or that of the original of which it is a copy.
        standardised: float32 [C, N], see `standardise`.
        right: places of its products among the N candidates.
        shown: number of its products, those that are no candidates included.
    """

    group: str
    standardised: Scores
    right: NDArray[np.intp]
    shown: int


@dataclass(frozen=True)
class RetrievalScores:
    """Retrieval measures of some videos: arrays with a number a video, [Q].

    Attributes:
        found_1, found_5: products among the first one, or five.
        shown: products that it shows.
        reciprocal: 1 over the rank of the first product that is right, 0 where none is reached.
    """

    found_1: NDArray[np.float64]
    found_5: NDArray[np.float64]
    shown: NDArray[np.float64]
    reciprocal: NDArray[np.float64]

    @property
    def recall_1(self) -> NDArray[np.float64]:
        """Products found first over products shown; of two products only one can come first."""
        return self.found_1 / self.shown

    @property
    def recall_5(self) -> NDArray[np.float64]:
        """Products among the first five over products shown."""
        return self.found_5 / self.shown

    def summary(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values, means with 95 % bootstrap intervals over videos."""
        means = {"recall_1": self.recall_1, "recall_5": self.recall_5, "mrr": self.reciprocal}
        return {
            "videos": len(self.shown),
            "shown": int(self.shown.sum()),
            "found_1": int(self.found_1.sum()),
            "found_5": int(self.found_5.sum()),
            **{name: asdict(bootstrap(values)) for name, values in means.items()},
        }


def evaluate_weights(known: Sequence[KnownVideo], weights: Weights) -> RetrievalScores:
    """Measure the retrieval of known products with these weights.

    Args:
        weights: [C], or [Q, C] with a row a video.
    """
    own = np.broadcast_to(weights, (len(known), np.shape(weights)[-1]))
    return _gather([_scores_of_weights(one, own[place][None]) for place, one in enumerate(known)], known, 0)


def search_weights(known: Sequence[KnownVideo], default: Weights) -> Weights:
    """Search the weights, in tenths of a whole, of the best mean recall among the first five.

    Of equally good ones those of the best mean reciprocal rank are taken, then the nearest to `default`.

    All combinations are tried up to four channels. With more, one weight after the other takes every value while the
    others share the rest as before, as long as that helps.

    Args:
        known: at least one video.
        default: [C], where a search begins, and what wins a tie.

    Returns:
        float64 [C], of sum 1.
    """
    channels = len(default)
    start: Weights = default / default.sum()
    if channels <= _FULL_GRID:
        return _best(known, np.concatenate([start[None], _simplex(channels)]), start)
    best = start
    while True:
        tried = [best]
        for channel in range(channels):
            rest = np.delete(best, channel)
            shares = rest / rest.sum() if rest.sum() > 0 else np.full(channels - 1, 1 / (channels - 1))
            for part in range(STEP + 1):
                tried.append(np.insert(shares * (1 - part / STEP), channel, part / STEP))
        better = _best(known, np.asarray(tried), start)
        now, then = _mean_scores(known, np.asarray([best, better]))
        if then <= now:
            return best
        best = better


@dataclass(frozen=True)
class WeightFit:
    """Fitted weights and their evaluation.

    Attributes:
        weights: [C].
        trained_on, held_out: numbers of videos.
        before, after: of the held-out videos, with the default weights and with these.
        gain: of mean recall among the first five on them, after less before, each video against itself.
    """

    weights: Weights
    trained_on: int
    held_out: int
    train: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    gain: Interval

    @property
    def helps(self) -> bool:
        """True where the held-out videos find more than before, or as many and no later."""
        now, then = ((row["recall_5"]["value"], row["mrr"]["value"]) for row in (self.after, self.before))
        return now >= then


def fit_held_out(known: Sequence[KnownVideo], default: Weights) -> WeightFit:
    """Fit weights on one part of the videos and evaluate them on the other.

    A digest of its group decides the part of a video.

    Raises:
        ValueError: one of the parts is empty.
    """
    train = [one for one in known if not is_held_out(one.group)]
    test = [one for one in known if is_held_out(one.group)]
    if not train or not test:
        raise ValueError(f"{len(train)} videos to fit on and {len(test)} held out: neither may be none")
    weights = search_weights(train, default)
    before, after = evaluate_weights(test, default), evaluate_weights(test, weights)
    return WeightFit(
        weights,
        len(train),
        len(test),
        evaluate_weights(train, weights).summary(),
        before.summary(),
        after.summary(),
        paired(before.recall_5, after.recall_5),
    )


def is_held_out(group: str) -> bool:
    """Tell whether a group is held out for evaluation: four of ten, by a digest of its name."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[0] % 10 < 4


def _simplex(channels: int) -> Weights:
    """List all weights in tenths that sum to one, float64 [G, C]."""
    bars = combinations(range(STEP + channels - 1), channels - 1)
    rows = [np.diff([-1, *places, STEP + channels - 1]) - 1 for places in bars]
    return np.asarray(rows, np.float64) / STEP


def _best(known: Sequence[KnownVideo], tried: Weights, start: Weights) -> Weights:
    goodness = _mean_scores(known, tried)
    nearness = -np.abs(tried - start).sum(1)
    place = max(range(len(tried)), key=lambda place: (*goodness[place], nearness[place]))
    return np.asarray(tried[place])


def _mean_scores(known: Sequence[KnownVideo], tried: Weights) -> list[tuple[float, float]]:
    """Compute (mean recall among the first five, mean reciprocal rank) of each row of weights."""
    scores = [_scores_of_weights(one, tried) for one in known]
    rows = [_gather(scores, known, place) for place in range(len(tried))]
    return [(round(float(row.recall_5.mean()), 9), round(float(row.reciprocal.mean()), 9)) for row in rows]


def _scores_of_weights(one: KnownVideo, tried: Weights) -> NDArray[np.float64]:
    """Count right products among the first one and five, and the reciprocal rank, of each row of weights: [G, 3]."""
    out = np.zeros((len(tried), 3))
    if not len(one.right):
        return out
    step = max(1, _BLOCK // max(1, one.standardised.shape[1]))
    for start in range(0, len(tried), step):
        scores = np.nan_to_num(combine(one.standardised, tried[start : start + step]), nan=-np.inf)
        right = np.sort(scores[:, one.right], axis=1)[:, ::-1]
        wrong = np.delete(scores, one.right, axis=1)
        for place in range(right.shape[1]):  # a right one is beaten by the better right ones, and by any tie
            own = right[:, place : place + 1]
            rank = place + 1 + (wrong >= own - TIE).sum(1)
            reached = np.isfinite(own[:, 0])
            out[start : start + step, 0] += reached & (rank <= 1)
            out[start : start + step, 1] += reached & (rank <= TOP)
            if place == 0:
                out[start : start + step, 2] = np.where(reached, 1 / rank, 0)
    return out


def _gather(scores: Sequence[NDArray[np.float64]], known: Sequence[KnownVideo], place: int) -> RetrievalScores:
    found = np.asarray([rows[place] for rows in scores])
    return RetrievalScores(found[:, 0], found[:, 1], np.asarray([one.shown for one in known], np.float64), found[:, 2])
