"""The simulation of exploration in its short form: what must hold wherever the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from benchmarks.exploration_simulated import Prior, World, drawn, fit_prior, history, rows, run


def test_a_prior_is_recovered_from_what_it_made() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.beta(2, 20, size=4000)
    true = Prior(strength=40.0, shift=-0.5, slope=0.8)
    rates = true.rates(predicted)
    impressions = rng.integers(20, 200, size=4000)
    clicks = rng.binomial(impressions, rng.beta(40 * rates, 40 * (1 - rates)))
    found = fit_prior(predicted, clicks, impressions)
    assert found.strength == pytest.approx(40, rel=0.15)
    assert found.shift == pytest.approx(-0.5, abs=0.15)
    assert found.slope == pytest.approx(0.8, abs=0.06)


def test_the_fit_is_where_scipys_beta_binomial_is_most_likely() -> None:
    """With so many items that the weak beliefs weigh nothing."""
    rng = np.random.default_rng(1)
    predicted = rng.beta(2, 20, size=3000)
    impressions = np.full(3000, 100)
    clicks = rng.binomial(impressions, rng.beta(30 * predicted, 30 * (1 - predicted)))
    found = fit_prior(predicted, clicks, impressions)

    def likelihood(prior: Prior) -> float:
        rates = prior.rates(predicted)
        own = betabinom.logpmf(clicks, impressions, prior.strength * rates, prior.strength * (1 - rates))
        return float(own.sum())

    best = likelihood(found)
    for strength, shift, slope in ((1.1, 0, 0), (0.9, 0, 0), (1, 0.05, 0), (1, -0.05, 0), (1, 0, 0.05), (1, 0, -0.05)):
        assert likelihood(Prior(found.strength * strength, found.shift + shift, found.slope + slope)) < best


def test_without_impressions_the_prior_is_the_default_one() -> None:
    found = fit_prior([0.1, 0.2], [0, 0], [0, 0])
    assert (found.strength, found.shift, found.slope) == pytest.approx((30, 0, 1))


def test_uninformative_predictions_get_no_slope() -> None:
    rng = np.random.default_rng(2)
    clicks = rng.binomial(200, rng.beta(3, 27, size=2000))
    assert fit_prior(rng.beta(2, 20, size=2000), clicks, np.full(2000, 200)).slope < 0.1


def test_content_has_the_given_correlation() -> None:
    true, predicted = drawn(50_000, World(correlation=0.6), np.random.default_rng(0))
    logits = [np.log(rates / (1 - rates)) for rates in (true, predicted)]
    assert np.corrcoef(*logits)[0, 1] == pytest.approx(0.6, abs=0.01)


def test_a_history_is_determined_by_its_seed() -> None:
    world = World(periods=25, requests=20)
    first, again, other = (history(world, seed)[0] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.slow
def test_sampling_finds_good_items_that_greed_does_not() -> None:
    result = run(short=True)
    informed, uninformed = (result["worlds"][name]["rules"] for name in ("0.6", "0"))
    for world in (informed, uninformed):
        assert all(0 <= world[name][measure][0][0] <= 1 for name in world for measure in ("reached", "wasted"))
        assert world["thompson, content prior"]["reached"][0][0] > world["none"]["reached"][0][0]
        assert world["thompson, content prior"]["regret"][0][0] < world["thompson, flat prior"]["regret"][0][0]
    assert informed["thompson, content prior"]["regret"][0][0] < informed["thompson, one prior"]["regret"][0][0]
    assert informed["thompson, content prior"]["wasted"][0][0] < informed["thompson, one prior"]["wasted"][0][0]
    assert 0 <= result["worlds"]["0"]["prior"][2] < 0.2 < result["worlds"]["0.6"]["prior"][2]
    assert all("SIMULATION" in row.claim for row in rows(result))
