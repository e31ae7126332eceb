"""A simulation: which rule of showing new items finds the good ones, where the true rates are known.

    python -m benchmarks.exploration_simulated [--short]

Nothing here was measured on people: items, rates and clicks are drawn. Every period new items arrive, each stays for a
while, and every request fills a few slots, which are for new items alone. A click is drawn at the item's true rate.
Counts come late: a rule knows the clicks up to the period before last. Content predicts the logit of a rate with a
given correlation and is too sure of itself, so that a prior has to be fitted, on a cohort that came earlier.

Rules: `none` shows those of highest mean of the posterior, to everyone; `epsilon` does so but for one slot in ten,
which is drawn evenly; `thompson, flat prior` starts all items at Beta(1, 1); `thompson, one prior` at what earlier
items had on average; `thompson, content prior` at what their content predicts. `none` and `epsilon` have the content
prior too. Regret is in clicks for a thousand impressions against showing the best that were there; a good item is of
the best fifth, a bad one of the worse half. Time is until 20 clicks, or the whole life where they never came. Intervals
are 95 % bootstraps over seeds, and differences are of the same seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.report import Row
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.recommend.explore import LEAST_RATE, MOST_RATE, STRENGTH, Posterior, posterior, sample_orders

SEEDS, SHORT_SEEDS = 30, 3
MEAN_LOGIT, SPREAD = -3.2, 0.8
EPSILON = 0.1
GOOD, BAD = 0.8, 0.5
CLICKS = 20

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """How long and how wide: `life` and `periods` in periods, `correlation` of the predicted with the true logit."""

    correlation: float = 0.6
    periods: int = 80
    arrivals: int = 10
    life: int = 20
    requests: int = 200
    slots: int = 5
    cohort: int = 400
    cohort_impressions: int = 150


@dataclass(frozen=True)
class Items:
    """True and predicted rates, float64 [N], and the period of arrival, int64 [N]."""

    true: Floats
    predicted: Floats
    born: Places


def drawn(count: int, world: World, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """True and predicted rates of so many items."""
    hidden = rng.normal(size=count)
    told = world.correlation * hidden + np.sqrt(1 - world.correlation**2) * rng.normal(size=count)
    return tuple(1 / (1 + np.exp(-(MEAN_LOGIT + SPREAD * values))) for values in (hidden, told))  # type: ignore[return-value]


@dataclass(frozen=True)
class Prior:
    """Beta(strength * rate, strength * (1 - rate)), where logit(rate) = shift + slope * logit(predicted)."""

    strength: float = STRENGTH
    shift: float = 0.0
    slope: float = 1.0

    def rates(self, predicted: ArrayLike) -> Floats:
        """Calibrated rates of predicted ones, float64 [N]."""
        given = np.clip(np.asarray(predicted, np.float64), LEAST_RATE, MOST_RATE)
        logits = self.shift + self.slope * np.log(given / (1 - given))
        found: Floats = np.clip(1 / (1 + np.exp(-logits)), LEAST_RATE, MOST_RATE)
        return found


def fit_prior(predicted: ArrayLike, clicks: ArrayLike, impressions: ArrayLike) -> Prior:
    """Strength and calibration of predicted rates by the marginal likelihood of what earlier items got.

    Clicks of an item are Beta-binomial. Weak normal beliefs (log strength around log 30 within 1.5, shift around 0 and
    slope around 1 within 2) keep few items from saying anything absolute; without any impressions they are the answer.

    Args:
        predicted, clicks, impressions: one number an item, [N]; what their first impressions gave.

    Raises:
        ColdstartError: as `posterior`.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln

    clicked, shown = np.asarray(clicks, np.float64), np.asarray(impressions, np.float64)
    posterior(predicted, clicked, shown)
    given = np.asarray(predicted, np.float64)[shown > 0]
    clicked, shown = clicked[shown > 0], shown[shown > 0]

    def loss(at: Floats) -> float:
        prior = Prior(float(np.exp(at[0])), float(at[1]), float(at[2]))
        rates = prior.rates(given)
        alpha, beta = prior.strength * rates, prior.strength * (1 - rates)
        evidence = float((betaln(alpha + clicked, beta + shown - clicked) - betaln(alpha, beta)).sum())
        believed = ((at[0] - np.log(STRENGTH)) / 1.5) ** 2 + (at[1] / 2) ** 2 + ((at[2] - 1) / 2) ** 2
        return float(believed) / 2 - evidence

    bounds = [(0.0, np.log(1e5)), (-10.0, 10.0), (0.0, 10.0)]
    found = minimize(loss, np.array([np.log(STRENGTH), 0.0, 1.0]), method="L-BFGS-B", bounds=bounds).x
    return Prior(float(np.exp(found[0])), float(found[1]), float(found[2]))


Rule = Callable[[Posterior, int, int, np.random.Generator], Places]
"""Posterior of the items that are there, requests, slots -> places, int64 [requests, slots]."""


def greedy(believed: Posterior, requests: int, slots: int, rng: np.random.Generator) -> Places:
    best = np.argsort(-believed.mean, kind="stable")[:slots]
    return np.broadcast_to(best, (requests, len(best)))


def epsilon(believed: Posterior, requests: int, slots: int, rng: np.random.Generator) -> Places:
    shown = greedy(believed, requests, slots, rng).copy()
    even = np.argsort(rng.random((requests, len(believed))), axis=1)[:, : shown.shape[1]]
    return np.where(rng.random(shown.shape) < EPSILON, even, shown)


def by_thompson(believed: Posterior, requests: int, slots: int, rng: np.random.Generator) -> Places:
    return sample_orders(believed, min(slots, len(believed)), rng, requests)


def played(items: Items, prior: tuple[Floats, float], rule: Rule, world: World, seed: int) -> dict[str, float]:
    """One history under one rule; `prior` is the rate of each item and the strength."""
    rng = np.random.default_rng((seed, 1))
    count = len(items.true)
    clicks, shown = np.zeros(count), np.zeros(count)
    late: list[tuple[Floats, Floats]] = []
    reached = np.full(count, float(world.life))
    lost = impressions = 0.0
    for period in range(world.periods):
        there = np.flatnonzero((items.born <= period) & (items.born > period - world.life))
        known = late[-2] if len(late) > 1 else (np.zeros(count), np.zeros(count))
        believed = posterior(prior[0][there], known[0][there], known[1][there], prior[1])
        places = there[rule(believed, world.requests, world.slots, rng)]
        hits = rng.random(places.shape) < items.true[places]
        np.add.at(shown, places, 1)
        np.add.at(clicks, places, hits)
        best = np.sort(items.true[there])[::-1][: places.shape[1]]
        lost += float(best.sum() * len(places) - items.true[places].sum())
        impressions += places.size
        now = np.minimum(period - items.born + 1, world.life)
        reached = np.where((clicks >= CLICKS) & (items.born <= period), np.minimum(reached, now), reached)
        late.append((clicks.copy(), shown.copy()))
    whole = items.born <= world.periods - world.life
    good = whole & (items.true >= np.quantile(items.true, GOOD))
    bad = items.true <= np.quantile(items.true, BAD)
    return {
        "regret": 1000 * lost / impressions,
        "reached": float((clicks[good] >= CLICKS).mean()),
        "time": float(reached[good].mean()),
        "wasted": float(shown[bad].sum() / shown.sum()),
    }


def history(world: World, seed: int) -> tuple[dict[str, dict[str, float]], Prior]:
    """All rules on the same items, and the prior that was fitted before."""
    rng = np.random.default_rng((seed, 0))
    true, predicted = drawn(world.cohort, world, rng)
    shown = np.full(world.cohort, world.cohort_impressions)
    earlier = rng.binomial(shown, true)
    prior, pooled = fit_prior(predicted, earlier, shown), fit_prior(np.full(world.cohort, 0.05), earlier, shown)
    count = world.arrivals * world.periods
    items = Items(*drawn(count, world, rng), np.repeat(np.arange(world.periods), world.arrivals))
    content = prior.rates(items.predicted), prior.strength
    same = pooled.rates(np.full(count, 0.05)), pooled.strength
    flat = np.full(count, 0.5), 2.0
    rules: dict[str, tuple[tuple[Floats, float], Rule]] = {
        "none": (content, greedy),
        "epsilon": (content, epsilon),
        "thompson, flat prior": (flat, by_thompson),
        "thompson, one prior": (same, by_thompson),
        "thompson, content prior": (content, by_thompson),
    }
    return {name: played(items, own, rule, world, seed) for name, (own, rule) in rules.items()}, prior


def run(short: bool) -> dict[str, Any]:
    """Measures of every rule with intervals, and differences from the last one, in worlds where content tells much,
    or nothing."""
    size = replace(World(), periods=40, requests=100) if short else World()
    result: dict[str, Any] = {"seeds": SHORT_SEEDS if short else SEEDS, "worlds": {}}
    for told in (0.6, 0.0):
        world = replace(size, correlation=told)
        found = [history(world, seed) for seed in range(result["seeds"])]
        names = list(found[0][0])
        own: dict[str, Any] = {"prior": [found[0][1].strength, found[0][1].shift, found[0][1].slope], "rules": {}}
        for name in names:
            measures: dict[str, Any] = {}
            for measure in found[0][0][name]:
                values = np.array([rules[name][measure] for rules, _ in found])
                ours = np.array([rules[names[-1]][measure] for rules, _ in found])
                intervals = bootstrap(values), paired(values, ours)
                measures[measure] = [[one.value, one.low, one.high] for one in intervals]
            own["rules"][name] = measures
        result["worlds"][f"{told:g}"] = own
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for told, world in result["worlds"].items():
        content = f"correlation {told}, {result['seeds']} seeds"
        for name, measures in world["rules"].items():
            value, low, high = measures["regret"][0]
            reached, periods, wasted = (measures[measure][0][0] for measure in ("reached", "time", "wasted"))
            more = f"{CLICKS} clicks: {reached:.2f} of good items, {periods:.1f} periods; on bad ones: {wasted:.0%}"
            claim = "SIMULATION of exploration, regret in clicks for 1,000 impressions"
            lines.append(Row(claim, f"{name}, {content}", f"{value:.1f}", f"{low:.1f} to {high:.1f}; {more}"))
        for name in ("none", "epsilon", "thompson, one prior"):
            regret, reached = (world["rules"][name][measure][1] for measure in ("regret", "reached"))
            setting = f"thompson, content prior, less {name}, {content}"
            claim = f"SIMULATION of exploration, good items with {CLICKS} clicks, gain in share"
            spread = f"{reached[1]:+.3f} to {reached[2]:+.3f}"
            more = f"regret {regret[0]:+.1f} ({regret[1]:+.1f} to {regret[2]:+.1f})"
            lines.append(Row(claim, setting, f"{reached[0]:+.3f}", f"{spread}; {more}"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
