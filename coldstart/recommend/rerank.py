"""Re-rank lists: exploration of new items by Thompson sampling, and greedy diversification (MMR, DPP).

Exploration: a new item's click rate has a Beta prior around its predicted rate; impressions and clicks give the
posterior, and Thompson sampling (Thompson, Biometrika 1933; Chapelle and Li, NIPS 2011) shows an item as often as it
may be the best. Every list draws its own sample, so that late counts do not favour one item for all users, and every
slot gets a propensity, which unbiased estimates from logs need. Diversification: many lists at once, one item of each
per step, candidates in rows, best first; equal gains go to the earlier one. Knows no users and no meaning of vectors.
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
"""Impressions that the prior counts for, by default."""
LEAST_RATE, MOST_RATE = 1e-6, 1 - 1e-6
"""Bounds within which a rate has a logit."""
_LIKELY_BAD = 0.05
_BLOCK = 1 << 21
Reals = NDArray[np.floating[Any]]
Gains = Callable[[int, Places | None], NDArray[np.float64]]
RHO = 0.99
"""Share of similarity off the diagonal of a DPP's kernel: below 1 no item is a full copy of another."""
_EMPTY = 1e-10


@dataclass(frozen=True)
class Posterior:
    """Posterior of N click rates: Beta(alpha, beta) each, float64 [N]."""

    alpha: Floats
    beta: Floats

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def mean(self) -> Floats:
        """Mean of each rate, float64 [N]."""
        return self.alpha / (self.alpha + self.beta)

    def take(self, places: NDArray[np.intp] | NDArray[np.bool_]) -> Posterior:
        """Take the rates of some items, in that order."""
        return Posterior(self.alpha[places], self.beta[places])

    def above(self, rate: float) -> Floats:
        """Compute the probability that each rate is above `rate`, float64 [N]."""
        from scipy.special import betaincc

        return np.asarray(betaincc(self.alpha, self.beta, rate), np.float64)


@dataclass(frozen=True)
class Explored:
    """List of K slots after exploration.

    Attributes:
        places: item of each slot, int64 [K]; -1 for an empty slot.
        explored: whether the slot was given to exploration, bool [K].
        propensity: probability that this slot holds this item, over all draws of `explore`, float64 [K].
    """

    places: Places
    explored: NDArray[np.bool_]
    propensity: Floats


def posterior(
    rates: ArrayLike, clicks: ArrayLike | None = None, impressions: ArrayLike | None = None, strength: float = STRENGTH
) -> Posterior:
    """Update Beta priors of click rates with clicks and impressions; without counts the priors stay.

    Args:
        rates: expected before any impression, between 0 and 1, [N].

    Raises:
        ColdstartError: a rate is not between 0 and 1, or there are more clicks than impressions.
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
    """Draw which of k slots are for exploration, bool [k].

    Never the first slot; the expected share is exactly `share`, as far as the other k - 1 slots allow.

    Raises:
        ColdstartError: the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ColdstartError(f"share {share:g} of exploration: give a number between 0 and 1")
    wanted = min(k * share, max(k - 1, 0))
    count = int(wanted) + int(rng.random() < wanted - int(wanted))
    found = np.zeros(k, bool)
    if count:
        found[1 + rng.permutation(k - 1)[:count]] = True
    return found


def sample_orders(beliefs: Posterior, k: int, rng: np.random.Generator, count: int) -> Places:
    """Sample all rates `count` times and take the k best of each, best first: int64 [count, k]. Drawn in blocks."""
    found = np.zeros((count, k), np.int64)
    step = max(1, _BLOCK // max(len(beliefs), 1))
    for start in range(0, count if k else 0, step):
        stop = min(start + step, count)
        sample = -rng.beta(beliefs.alpha, beliefs.beta, size=(stop - start, len(beliefs)))
        best = np.argpartition(sample, k - 1, axis=1)[:, :k] if k < len(beliefs) else _all_of(sample)
        found[start:stop] = np.take_along_axis(best, np.argsort(np.take_along_axis(sample, best, 1), axis=1), 1)
    return found


def merge_lists(ranked: ArrayLike, new: ArrayLike, chosen: NDArray[np.bool_]) -> tuple[Places, NDArray[np.bool_]]:
    """Merge two lists of each row: `new` at the chosen slots, in order, `ranked` at the others; -1 after the end.

    A chosen slot goes to `ranked` when no new item is left. No item may be in both.

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
    """Give a share of a list's slots to new items, drawn by Thompson sampling.

    Args:
        ranked: K best places without exploration, best first; -1 where there are fewer.
        candidates: places of C new items, in any order; one that is ranked already is not drawn.
        prior_rate: expected click rates of the candidates, [C]; `strength` in impressions.
        clicks, impressions: of the candidates up to now, [C]; none by default.
        share: expected share of slots for exploration; 0.05 to 0.1 is usual.
        draws: further lists drawn to estimate propensities, which are exact to about 1 / draws.
        cap: a candidate with so many impressions is explored no more; None: no cap.
        floor: so is a candidate whose rate is above this with a probability under 5 %.
        pool: most candidates that are sampled, those of highest mean plus two deviations; the others have propensity 0
            until the counts of these grow.

    Raises:
        ColdstartError: a share or rate is not between 0 and 1, or there are more clicks than impressions.
    """
    k = len(ranked)
    beliefs = posterior(prior_rate, clicks, impressions, strength)
    shown = np.zeros(len(beliefs)) if impressions is None else np.asarray(impressions, np.float64)
    eligible = (shown < (np.inf if cap is None else cap)) & ~np.isin(candidates, ranked)
    if floor > 0:
        eligible &= beliefs.above(floor) >= _LIKELY_BAD
    kept = np.flatnonzero(eligible)
    if len(kept) > pool:
        kept = kept[np.argsort(-_upper_bound(beliefs.take(kept)), kind="stable")[:pool]]
    chosen = np.stack([exploration_slots(k, share, rng) for _ in range(draws + 1)])
    most = min(int(chosen.sum(axis=1).max()), len(kept))
    new = np.asarray(candidates, np.int64)[kept][sample_orders(beliefs.take(kept), most, rng, draws + 1)]
    places, explored = merge_lists(np.broadcast_to(ranked, (draws + 1, k)), new, chosen)
    return Explored(places[0], explored[0], (places == places[0]).mean(axis=0))


def _padded(queue: Places, chosen: NDArray[np.bool_]) -> Places:
    """Pad a queue with -1 to the number of slots."""
    short = max(chosen.shape[-1] - queue.shape[-1], 0)
    return np.pad(queue, [(0, 0)] * (queue.ndim - 1) + [(0, short)], constant_values=-1)


def _upper_bound(beliefs: Posterior) -> Floats:
    """Compute the mean plus two standard deviations of each rate."""
    total = beliefs.alpha + beliefs.beta
    found: Floats = beliefs.mean + 2 * np.sqrt(beliefs.alpha * beliefs.beta / (total**2 * (total + 1)))
    return found


def _all_of(sample: Floats) -> NDArray[np.intp]:
    return np.broadcast_to(np.arange(sample.shape[1]), sample.shape)


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
