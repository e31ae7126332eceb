"""Exploration: which slots of a list go to new items, and to which, so that a good one is found out soon.

A new item's rate of clicks has a Beta prior around what its content predicts; what was shown and clicked makes the
posterior, and Thompson sampling (Thompson, Biometrika 1933; Chapelle and Li, NIPS 2011) shows an item as often as it
may be the best. A sample is drawn for every list, so that late counts do not put one item before all users alike.
With each slot goes the probability of what stands there, which unbiased estimates from logs need later.
Knows no users: `ranked` is what a user would get without exploration.

Lists that do not say one thing ten times: greedy re-ranking of candidates by relevance against likeness.

Both ways take many lists at once, pick one item of each list a step, and can hold a quota: of the first n at least so
many of a flagged kind. Candidates stand in rows, best first, and equal gains go to the earlier one.
Knows nothing of users; what likeness means is in the vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError

Floats = NDArray[np.float64]


Places = NDArray[np.int64]


STRENGTH = 30.0
"""Impressions that a prior counts for where nothing was fitted."""


LEAST_RATE, MOST_RATE = 1e-6, 1 - 1e-6
"""Bounds within which a rate has a logit."""


_KNOWN_BAD = 0.05


_BLOCK = 1 << 21


@dataclass(frozen=True)
class Posterior:
    """What is believed of N rates: Beta(alpha, beta) each, float64 [N]."""

    alpha: Floats
    beta: Floats

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def mean(self) -> Floats:
        """float64 [N]."""
        return self.alpha / (self.alpha + self.beta)

    def take(self, places: NDArray[np.intp] | NDArray[np.bool_]) -> Posterior:
        """Those of some items, in that order."""
        return Posterior(self.alpha[places], self.beta[places])

    def above(self, rate: float) -> Floats:
        """Probability that each rate is above `rate`, float64 [N]."""
        from scipy.special import betaincc

        return np.asarray(betaincc(self.alpha, self.beta, rate), np.float64)


@dataclass(frozen=True)
class Explored:
    """A list of K slots.

    Attributes:
        places: what stands there, int64 [K]; -1 where there was nothing left.
        explored: whether the slot was for exploration, bool [K].
        propensity: probability that this slot holds this item, over all chance in `explore`, float64 [K].
    """

    places: Places
    explored: NDArray[np.bool_]
    propensity: Floats


def posterior(
    rates: ArrayLike, clicks: ArrayLike | None = None, impressions: ArrayLike | None = None, strength: float = STRENGTH
) -> Posterior:
    """What is believed of items after so many clicks of so many impressions; none of either where not given.

    Args:
        rates: expected before any impression, between 0 and 1, [N].

    Raises:
        ColdstartError: a rate that is none, or more clicks than impressions.
    """
    expected = np.asarray(rates, np.float64)
    clicked, shown = (
        np.zeros(len(expected)) if x is None else np.asarray(x, np.float64) for x in (clicks, impressions)
    )
    if not np.all((expected >= 0) & (expected <= 1)):
        wrong = expected[~((expected >= 0) & (expected <= 1))][0]
        raise ColdstartError(f"rate {wrong:g} of a new item: give shares between 0 and 1")
    if np.any(clicked < 0) or np.any(clicked > shown):
        place = int(np.flatnonzero((clicked < 0) | (clicked > shown))[0])
        raise ColdstartError(
            f"{clicked[place]:g} clicks of {shown[place]:g} impressions at place {place}: count every click once, "
            "and its impression too"
        )
    expected = np.clip(expected, LEAST_RATE, MOST_RATE)
    return Posterior(strength * expected + clicked, strength * (1 - expected) + shown - clicked)


def exploration_slots(k: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of k slots are for exploration, bool [k]; never the first, and the expected share is `share` exactly (as
    far as the k - 1 others go).

    Raises:
        ColdstartError: a share that is none.
    """
    if not 0 <= share <= 1:
        raise ColdstartError(f"share {share:g} of exploration: give a number between 0 and 1")
    wanted = min(k * share, max(k - 1, 0))
    count = int(wanted) + int(rng.random() < wanted - int(wanted))
    found = np.zeros(k, bool)
    if count:
        found[1 + rng.permutation(k - 1)[:count]] = True
    return found


def sample_orders(believed: Posterior, k: int, rng: np.random.Generator, count: int) -> Places:
    """The k best of each of `count` samples of all rates, best first: int64 [count, k]. Drawn in blocks."""
    found = np.zeros((count, k), np.int64)
    step = max(1, _BLOCK // max(len(believed), 1))
    for start in range(0, count if k else 0, step):
        stop = min(start + step, count)
        sample = -rng.beta(believed.alpha, believed.beta, size=(stop - start, len(believed)))
        best = np.argpartition(sample, k - 1, axis=1)[:, :k] if k < len(believed) else _all_of(sample)
        found[start:stop] = np.take_along_axis(best, np.argsort(np.take_along_axis(sample, best, 1), axis=1), 1)
    return found


def merge_lists(ranked: ArrayLike, new: ArrayLike, chosen: NDArray[np.bool_]) -> tuple[Places, NDArray[np.bool_]]:
    """One list of each row: `new` at the chosen slots, in order, `ranked` at the others; -1 after the end of `ranked`.

    A chosen slot goes to `ranked` when there is no new item left. Nothing may stand in both.

    Args:
        ranked: [..., R]; new: [..., E]; both with any -1 at their ends. chosen: bool [..., K].

    Returns:
        Places int64 [..., K], and which of them came from `new`, bool [..., K].
    """
    queues = [_padded(np.asarray(queue, np.int64), chosen) for queue in (ranked, new)]
    explored = chosen & (np.cumsum(chosen, axis=-1) <= (queues[1] >= 0).sum(axis=-1, keepdims=True))
    turns = [np.maximum(np.cumsum(own, axis=-1) - 1, 0) for own in (~explored, explored)]
    known, fresh = (np.take_along_axis(queue, turn, -1) for queue, turn in zip(queues, turns, strict=True))
    return np.where(explored, fresh, known), explored


def explore(
    ranked: Places,
    candidates: Places,
    prior_rate: ArrayLike,
    clicks: ArrayLike | None = None,
    impressions: ArrayLike | None = None,
    *,
    share: float,
    rng: np.random.Generator,
    draws: int = 200,
    strength: float = STRENGTH,
    cap: int | None = 500,
    floor: float = 0.0,
    pool: int = 200,
) -> Explored:
    """A user's list with a share of its slots for new items.

    Args:
        ranked: K best places without exploration, best first; -1 where there are fewer.
        candidates: places of C new items, in any order; one that is ranked already needs no slot.
        prior_rate: of the candidates, [C], as `Prior.rates` gives it; `strength` is the prior's.
        clicks, impressions: of the candidates up to now, [C]; none by default.
        share: expected share of slots for exploration; practice is 0.05 to 0.1.
        draws: further lists that are drawn to know propensities; they are exact to about 1 / draws.
        cap: a candidate with so many impressions has had its chance.
        floor: a candidate whose rate is above this with a probability under 5 % has had its chance too.
        pool: so many candidates are sampled at most, those of highest mean plus two deviations; the others have
            propensity 0 until the counts of these grow.

    Raises:
        ColdstartError: a share or a rate that is none, more clicks than impressions.
    """
    k = len(ranked)
    believed = posterior(prior_rate, clicks, impressions, strength)
    shown = np.zeros(len(believed)) if impressions is None else np.asarray(impressions, np.float64)
    eligible = (shown < (np.inf if cap is None else cap)) & ~np.isin(candidates, ranked)
    if floor > 0:
        eligible &= believed.above(floor) >= _KNOWN_BAD
    kept = np.flatnonzero(eligible)
    if len(kept) > pool:
        kept = kept[np.argsort(-_upper_bound(believed.take(kept)), kind="stable")[:pool]]
    chosen = np.stack([exploration_slots(k, share, rng) for _ in range(draws + 1)])
    most = min(int(chosen.sum(axis=1).max()), len(kept))
    new = np.asarray(candidates, np.int64)[kept][sample_orders(believed.take(kept), most, rng, draws + 1)]
    places, explored = merge_lists(np.broadcast_to(ranked, (draws + 1, k)), new, chosen)
    return Explored(places[0], explored[0], (places == places[0]).mean(axis=0))


def _padded(queue: Places, chosen: NDArray[np.bool_]) -> Places:
    """The queue as long as the slots, -1 after its end."""
    short = max(chosen.shape[-1] - queue.shape[-1], 0)
    return np.pad(queue, [(0, 0)] * (queue.ndim - 1) + [(0, short)], constant_values=-1)


def _upper_bound(believed: Posterior) -> Floats:
    """Mean plus two standard deviations."""
    total = believed.alpha + believed.beta
    found: Floats = believed.mean + 2 * np.sqrt(believed.alpha * believed.beta / (total**2 * (total + 1)))
    return found


def _all_of(sample: Floats) -> NDArray[np.intp]:
    return np.broadcast_to(np.arange(sample.shape[1]), sample.shape)


Reals = NDArray[np.floating[Any]]


Gains = Callable[[int, Places | None], NDArray[np.float64]]


RHO = 0.99
"""Share of likeness off the diagonal of a DPP's kernel: below 1 no two items are wholly alike, and none is shut out."""


_EMPTY = 1e-10


def mmr(relevance: Reals, vectors: Reals, k: int, lam: float, window: int = 10, quota: Quota | None = None) -> Places:
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


def dpp(relevance: Reals, vectors: Reals, k: int, theta: float, rho: float = RHO, quota: Quota | None = None) -> Places:
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


def relevance_weight(dial: float) -> float:
    """Weight of relevance in `dpp` for a dial from near 0 (relevance) to 1 (diversity alone)."""
    return (1 - dial) / (2 * dial)


def intra_list_diversity(vectors: Reals) -> float:
    """Intra-list diversity: mean 1 - cos over all pairs of [K, D]; 0 for fewer than two."""
    rows = unit(np.asarray(vectors, np.float64))
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


def _rows(relevance: Reals, vectors: Reals) -> tuple[NDArray[np.float64], Reals, bool]:
    scores = np.asarray(relevance, np.float64)
    single = scores.ndim == 1
    rows = unit(np.asarray(vectors))
    return (scores[None], rows[None], True) if single else (scores, rows, False)


def _likeness(rows: Reals, last: Places) -> NDArray[np.float64]:
    """Cosine of every candidate to the one that was picked last, [B, M]."""
    found = np.matmul(rows, rows[np.arange(len(rows)), last][:, :, None])[:, :, 0]
    return np.asarray(found, np.float64)
