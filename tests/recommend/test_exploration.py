"""Exploration: priors that are recovered, propensities that are right, shares that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_of
from scipy.stats import betabinom

from coldstart.errors import ColdstartError
from coldstart.recommend.rerank import Posterior, Prior, explore, fit_prior, merge, posterior, slots, thompson


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


def test_predictions_that_say_nothing_get_no_slope() -> None:
    rng = np.random.default_rng(2)
    clicks = rng.binomial(200, rng.beta(3, 27, size=2000))
    assert fit_prior(rng.beta(2, 20, size=2000), clicks, np.full(2000, 200)).slope < 0.1


def test_a_posterior_counts_clicks_and_impressions() -> None:
    found = posterior([0.1, 0.5], [3, 0], [10, 0], strength=20)
    np.testing.assert_allclose(found.alpha, [5, 10])
    np.testing.assert_allclose(found.beta, [25, 10])
    np.testing.assert_allclose(found.mean, [5 / 30, 0.5])
    np.testing.assert_allclose(found.above(0.2), beta_of.sf(0.2, found.alpha, found.beta))


def test_counts_and_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ColdstartError) as refused:
        posterior([0.1, 0.2], [1, 5], [9, 4])
    assert str(refused.value) == (
        "5 clicks of 4 impressions at place 1: count every click once, and its impression too"
    )
    with pytest.raises(ColdstartError) as refused:
        posterior([0.1, 1.5])
    assert str(refused.value) == "rate 1.5 of a new item: give shares between 0 and 1"
    with pytest.raises(ColdstartError) as refused:
        slots(5, 1.2, np.random.default_rng(0))
    assert str(refused.value) == "share 1.2 of exploration: give a number between 0 and 1"


def test_the_propensity_of_the_first_slot_is_the_probability_to_be_the_best() -> None:
    """Against the integral of one density times the other's distribution."""
    believed = Posterior(np.array([3.0, 5.0]), np.array([17.0, 30.0]))
    first, second = (beta_of(a, b) for a, b in zip(believed.alpha, believed.beta, strict=True))
    exact = quad(lambda rate: first.pdf(rate) * second.cdf(rate), 0, 1)[0]
    rng = np.random.default_rng(0)
    places, propensities = thompson(believed, 1, rng, draws=40_000)
    assert propensities[0] == pytest.approx(exact if places[0] == 0 else 1 - exact, abs=0.01)
    shown = np.mean([thompson(believed, 1, rng, draws=1)[0][0] == 0 for _ in range(4000)])
    assert shown == pytest.approx(exact, abs=0.03)


def test_a_sample_of_more_than_a_block_is_a_sample() -> None:
    believed = posterior(np.linspace(0.01, 0.5, 3000), strength=1e5)
    places, propensities = thompson(believed, 4, np.random.default_rng(0), draws=1500)
    assert len(set(places.tolist())) == 4
    assert np.all(places > 2900)
    assert np.all((propensities > 0) & (propensities <= 1))


def test_the_expected_share_of_slots_is_the_share_and_the_first_slot_is_never_taken() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([slots(10, 0.07, rng) for _ in range(20_000)])
    assert drawn.mean() == pytest.approx(0.07, abs=0.002)
    assert set(drawn.sum(axis=1).tolist()) == {0, 1}
    assert not drawn[:, 0].any()
    np.testing.assert_allclose(drawn[:, 1:].mean(axis=0), 0.7 / 9, atol=0.01)
    assert slots(4, 1.0, rng).tolist() == [False, True, True, True]
    assert slots(1, 1.0, rng).tolist() == [False]
    assert slots(0, 0.5, rng).tolist() == []


def test_a_merged_list_keeps_both_orders() -> None:
    chosen = np.array([False, True, False, True, True])
    places, explored = merge([5, 6, 7, 8, 9], [1, 2], chosen)
    assert places.tolist() == [5, 1, 6, 2, 7]
    assert explored.tolist() == [False, True, False, True, False]
    places, explored = merge([5, -1, -1], [1, 2, 3], np.array([False, True, False, True]))
    assert places.tolist() == [5, 1, -1, 2]


def test_propensities_are_how_often_an_item_stands_at_a_slot() -> None:
    """Against many lists of their own, drawn with other seeds."""
    options = {"share": 0.3, "clicks": np.array([3, 0, 1, 0]), "impressions": np.array([20, 0, 10, 5])}
    told = explore(
        np.arange(5), np.arange(10, 14), [0.1, 0.1, 0.2, 0.05], rng=np.random.default_rng(0), draws=8000, **options
    )
    lists = [
        explore(
            np.arange(5), np.arange(10, 14), [0.1, 0.1, 0.2, 0.05], rng=np.random.default_rng(s), draws=1, **options
        )
        for s in range(1, 4001)
    ]
    drawn = np.stack([found.places for found in lists])
    np.testing.assert_allclose(told.propensity, (drawn == told.places).mean(axis=0), atol=0.03)
    assert np.mean([found.explored.mean() for found in lists]) == pytest.approx(0.3, abs=0.01)
    assert all(len(set(places.tolist())) == 5 for places in drawn)
    assert np.all(drawn[:, 0] == 0)


def test_without_a_share_the_list_is_the_ranked_one() -> None:
    found = explore(np.array([4, 2, -1]), np.array([7]), [0.5], share=0.0, rng=np.random.default_rng(0))
    assert found.places.tolist() == [4, 2, -1]
    assert not found.explored.any()
    assert found.propensity.tolist() == [1, 1, 1]


def test_items_that_had_their_chance_are_explored_no_more() -> None:
    rng = np.random.default_rng(0)
    ranked, new = np.arange(4), np.array([10, 11, 12, 2])
    counts = {"clicks": np.array([50, 0, 5, 0]), "impressions": np.array([500, 300, 50, 0])}
    found = explore(ranked, new, [0.1, 0.1, 0.1, 0.9], share=0.75, rng=rng, floor=0.05, **counts)
    assert found.places.tolist() == [0, 12, 1, 2]  # 10 is at the cap, 11 under the floor, 2 is ranked already
    assert found.explored.tolist() == [False, True, False, False]


def test_no_candidates_leave_the_ranked_list() -> None:
    found = explore(np.arange(3), np.array([], np.int64), [], share=0.5, rng=np.random.default_rng(0))
    assert found.places.tolist() == [0, 1, 2]
    assert found.propensity.tolist() == [1, 1, 1]


def test_only_the_most_hopeful_are_sampled() -> None:
    rng = np.random.default_rng(0)
    rates = np.linspace(0.01, 0.5, 100)
    seen = {
        place
        for _ in range(200)
        for place in explore(
            np.arange(4), np.arange(10, 110), rates, share=0.5, rng=rng, draws=1, pool=3
        ).places.tolist()
    }
    assert seen == {0, 1, 107, 108, 109}
