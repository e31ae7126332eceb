"""Explore new items in lists by Thompson sampling.

A new item's click rate has a Beta prior around its predicted rate; impressions and clicks give the
posterior, and Thompson sampling (Thompson, Biometrika 1933; Chapelle and Li, NIPS 2011) shows an item as often as it
may be the best. Every list draws its own sample, so that late counts do not favour one item for all users, and every
slot gets a propensity, which unbiased estimates from logs need. Knows no users and no meaning of vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldstart.errors import ColdstartError

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
STRENGTH = 30.0
"""Impressions that the prior counts for, by default."""
LEAST_RATE, MOST_RATE = 1e-6, 1 - 1e-6
"""Bounds within which a rate has a logit."""
_LIKELY_BAD = 0.05
_BLOCK = 1 << 21


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
