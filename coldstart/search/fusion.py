"""Fusion of the evidence of one video: frames vote for products, words support them, and products are taken in turn.

A frame shows one thing, so each has one vote, which it shares among the products nearest to it. Products are taken in
the order of what they add: a frame that speaks for one that is taken already speaks for another only by as much as it
is nearer to that. So a clip of three products lists three, not three kinds of the first. Words name any number of
products, and so what they say is added. Plain arrays; knows nothing of items, spaces or stores.
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

RANKED = 10
"""Products that are taken where ranks are measured."""

STEP = 10
"""Parts of a whole in which weights are searched."""

SHARPNESS = 2.0
"""Exponent by which a frame's vote is shared, in deviations of its cosines."""

VOTED = 50
"""Nearest products that share the vote of a frame; with all, those far away would share most of it in a large shop."""

CONTRAST = 3.0
"""Power by which words tell the product that they name from others of a like name."""

_FULL_GRID = 4  # channels up to which every combination is tried: 286 of four, 1,001 of five
_IN_TURN = 50  # products that are taken one by one
_BLOCK = 1 << 22  # votes in memory at a time: 32 MiB
_WHOLE_SHARE = 1e-4  # what a frame that is spoken for still adds: it settles the order of those that add nothing


@dataclass(frozen=True)
class ChannelVotes:
    """Votes or support of one channel for the candidates of one video.

    Attributes:
        values: float32 [T, N], from 0 to 1: votes of frames, or the support of words in one row.
        in_turn: frames, of which each speaks for one product; words support any number of products.
    """

    values: Scores
    in_turn: bool


Votes = Sequence[ChannelVotes | None]
"""Votes of each channel; None for one that the video does not have."""


def standardise(cosines: Scores, reference: Scores | None = None) -> Scores:
    """Subtract a mean from each row and divide by a deviation; NaN stays, 0 where there is no deviation.

    Args:
        cosines: float32 [T, N], a row a frame, NaN where a candidate lacks it.
        reference: float32 [T, M], cosines of those whose mean and deviation count; by default the candidates' own.
    """
    others = cosines if reference is None else reference
    present = np.isfinite(others)
    count = np.maximum(present.sum(1, keepdims=True), 1)
    values = np.where(present, others, 0).astype(np.float64)
    mean = values.sum(1, keepdims=True) / count
    deviation = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(1, keepdims=True) / count)
    return np.asarray((cosines - mean) / np.where(deviation > TIE, deviation, np.inf), np.float32)


def share_votes(standardised: Scores) -> Scores:
    """Share the vote of each frame among the products nearest to it: float32 [T, N], a row sums to 1.

    Args:
        standardised: float32 [T, N], NaN for a product that cannot be compared, which gets nothing.
    """
    frames, count = standardised.shape
    votes = np.zeros((frames, count), np.float32)
    if not count:
        return votes
    values = np.where(np.isfinite(standardised), standardised, -np.inf)
    keep = min(VOTED, count)
    nearest = np.argpartition(-values, keep - 1, axis=1)[:, :keep]
    own = np.take_along_axis(values, nearest, 1)
    top = own.max(1, keepdims=True)
    parts = np.exp(SHARPNESS * (own - np.where(np.isfinite(top), top, 0)))
    np.put_along_axis(votes, nearest, parts / np.maximum(parts.sum(1, keepdims=True), TIE), 1)
    return votes


def support_of_words(cosines: Scores, low: float, high: float) -> Scores:
    """Measure how far the words of a video stand out for each product: float32 [N], from 0 to 1.

    Words support what they are nearest to, and others by the `CONTRAST`-th power of how near these come to that.

    Args:
        cosines: float32 [T, N], a row for each line of words; NaN for a product that cannot be compared.
        low: cosine that words which name nothing reach, which is no support; high: that a product's own name has.
    """
    own = np.nan_to_num(np.clip((cosines - low) / (high - low), 0, 1))
    best = np.maximum(own.max(1, keepdims=True, initial=0), TIE)
    return np.asarray((own * (own / best) ** (CONTRAST - 1)).max(0, initial=0), np.float32)


def take_in_turn(votes: Votes, weights: Weights, top: int) -> tuple[list[int], list[float]]:
    """Order products by what each adds to those before it.

    Args:
        weights: [C], not negative.
        top: how many are taken.

    Returns:
        Places of the products among the candidates, and what each adds: from 1, if all the video says is of it, to 0.
        Products of which nothing speaks are left out.
    """
    places, gains = _take(votes, weights[None], top)
    said = [(int(place), float(gain)) for place, gain in zip(places[0], gains[0], strict=True) if gain > 0]
    return [place for place, _ in said], [gain for _, gain in said]


def _take(votes: Votes, weights: Weights, top: int) -> tuple[NDArray[np.intp], Weights]:
    """Take products in turn by each row of weights [G, C]: their places and what they add, [G, top] or fewer."""
    given = [(row, one) for row, one in enumerate(votes) if one is not None and one.values.any()]
    if not given or not given[0][1].values.shape[1] or top < 1:
        return np.zeros((len(weights), 0), np.intp), np.zeros((len(weights), 0))
    count = given[0][1].values.shape[1]
    own = weights[:, [row for row, _ in given]]  # words that do not stand out say nothing, and weigh nothing
    own = own / np.maximum(own.sum(1, keepdims=True), TIE)
    fixed = np.zeros((len(weights), count))
    frames, each = [np.zeros((0, count), np.float32)], [np.zeros((len(weights), 0))]
    for column, (_, one) in enumerate(given):
        share = own[:, [column]]
        if one.in_turn:
            frames.append(one.values)
            each.append(np.repeat(share / len(one.values), len(one.values), axis=1))
            fixed += _WHOLE_SHARE * share * one.values.mean(0)
        else:
            fixed += share * one.values[0]
    rows, by_row = np.concatenate(frames), np.concatenate(each, axis=1)
    spoken = np.zeros(by_row.shape, np.float32)
    taken, at = np.zeros((len(weights), count), bool), np.arange(len(weights))
    places, gains = [], []
    for _ in range(min(top, count, _IN_TURN)):
        gain = fixed + np.einsum("gr,grn->gn", by_row, np.maximum(rows - spoken[:, :, None], 0))
        gain[taken] = -1
        best = gain.argmax(1)
        places.append(best)
        gains.append(gain[at, best])
        taken[at, best] = True
        spoken = np.maximum(spoken, rows[:, best].T)
    if len(places) < min(top, count):  # every frame is spoken for: the rest in one go
        gain = fixed + np.einsum("gr,grn->gn", by_row, np.maximum(rows - spoken[:, :, None], 0))
        gain[taken] = -1
        rest = np.argsort(-gain, axis=1, kind="stable")[:, : min(top, count) - len(places)]
        places += list(rest.T)
        gains += list(np.take_along_axis(gain, rest, 1).T)
    return np.stack(places, axis=1), np.stack(gains, axis=1)


def keep_best(votes: Votes, keep: int) -> NDArray[np.intp]:
    """List the places of those candidates that are among the `keep` best of some channel, ascending."""
    chosen: set[int] = set()
    for one in votes:
        if one is not None:
            best = one.values.max(0)
            chosen.update(np.argsort(-best, kind="stable")[:keep].tolist())
    return np.asarray(sorted(chosen), np.intp)


@dataclass(frozen=True)
class KnownVideo:
    """One video with the products that it shows.

    Attributes:
        group: of the split: its id, or that of the original of which it is a copy.
        votes: of each channel, over N candidates.
        right: places of its products among the N candidates.
        shown: number of its products, those that are no candidates included.
    """

    group: str
    votes: Votes
    right: NDArray[np.intp]
    shown: int


@dataclass(frozen=True)
class RetrievalScores:
    """Retrieval measures of some videos: arrays with a number a video, [Q].

    Attributes:
        found_1, found_5: products among the first one, or five.
        shown: products that it shows.
        reciprocal: 1 over the rank of the first product that is right, 0 where none is among the first `RANKED`.
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
    count = next((own.values.shape[1] for own in one.votes if own is not None), 0)
    order = np.concatenate([np.setdiff1d(np.arange(count), one.right), one.right])  # a tie counts against a right one
    votes = [None if own is None else ChannelVotes(own.values[:, order], own.in_turn) for own in one.votes]
    rows = sum(len(own.values) for own in votes if own is not None and own.in_turn)
    step = max(1, _BLOCK // max(1, count * max(1, rows)))
    for start in range(0, len(tried), step):
        places, gains = _take(votes, tried[start : start + step], RANKED)
        if not places.shape[1]:  # no channel says anything of the video
            continue
        right = (places >= count - len(one.right)) & (gains > 0)
        first = right.argmax(1)
        block = slice(start, start + len(places))
        out[block, 0] = right[:, :1].sum(1)
        out[block, 1] = right[:, :TOP].sum(1)
        out[block, 2] = np.where(right.any(1), 1 / (1 + first), 0)
    return out


def _gather(scores: Sequence[NDArray[np.float64]], known: Sequence[KnownVideo], place: int) -> RetrievalScores:
    found = np.asarray([rows[place] for rows in scores])
    return RetrievalScores(found[:, 0], found[:, 1], np.asarray([one.shown for one in known], np.float64), found[:, 2])
