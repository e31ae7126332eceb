"""Exploration: posteriors, propensities that are right, shares that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_of

from coldstart.errors import ColdstartError
from coldstart.recommend.explore import Posterior, exploration_slots, explore, merge_lists, posterior, sample_orders


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
        exploration_slots(5, 1.2, np.random.default_rng(0))
    assert str(refused.value) == "share 1.2 of exploration: give a number between 0 and 1"


def test_the_propensity_of_the_first_slot_is_the_probability_to_be_the_best() -> None:
    """Against the integral of one density times the other's distribution."""
    believed = Posterior(np.array([3.0, 5.0]), np.array([17.0, 30.0]))
    first, second = (beta_of(a, b) for a, b in zip(believed.alpha, believed.beta, strict=True))
    exact = quad(lambda rate: first.pdf(rate) * second.cdf(rate), 0, 1)[0]
    rng = np.random.default_rng(0)
    orders = sample_orders(believed, 1, rng, 40_001)
    assert (orders == 0).mean() == pytest.approx(exact, abs=0.01)
    assert (orders == 1).mean() == pytest.approx(1 - exact, abs=0.01)
    shown = np.mean([sample_orders(believed, 1, rng, 1)[0, 0] == 0 for _ in range(4000)])
    assert shown == pytest.approx(exact, abs=0.03)


@pytest.mark.slow
def test_a_sample_of_more_than_a_block_is_a_sample() -> None:
    believed = posterior(np.linspace(0.01, 0.5, 3000), strength=1e5)
    orders = sample_orders(believed, 4, np.random.default_rng(0), 1501)
    assert orders.shape == (1501, 4)
    assert all(len(set(order.tolist())) == 4 for order in orders)
    assert np.all(orders > 2900)


def test_the_expected_share_of_slots_is_the_share_and_the_first_slot_is_never_taken() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([exploration_slots(10, 0.07, rng) for _ in range(20_000)])
    assert drawn.mean() == pytest.approx(0.07, abs=0.002)
    assert set(drawn.sum(axis=1).tolist()) == {0, 1}
    assert not drawn[:, 0].any()
    np.testing.assert_allclose(drawn[:, 1:].mean(axis=0), 0.7 / 9, atol=0.01)
    assert exploration_slots(4, 1.0, rng).tolist() == [False, True, True, True]
    assert exploration_slots(1, 1.0, rng).tolist() == [False]
    assert exploration_slots(0, 0.5, rng).tolist() == []


def test_a_merged_list_keeps_both_orders() -> None:
    chosen = np.array([False, True, False, True, True])
    places, explored = merge_lists([5, 6, 7, 8, 9], [1, 2], chosen)
    assert places.tolist() == [5, 1, 6, 2, 7]
    assert explored.tolist() == [False, True, False, True, False]
    places, explored = merge_lists([5, -1, -1], [1, 2, 3], np.array([False, True, False, True]))
    assert places.tolist() == [5, 1, -1, 2]


@pytest.mark.slow
def test_propensities_are_the_frequency_of_an_item_at_a_slot() -> None:
    """Against many lists of their own, drawn with other seeds."""
    options = {"share": 0.3, "clicks": np.array([3, 0, 1, 0]), "impressions": np.array([20, 0, 10, 5])}
    explored = explore(
        np.arange(5), np.arange(10, 14), [0.1, 0.1, 0.2, 0.05], rng=np.random.default_rng(0), draws=8000, **options
    )
    lists = [
        explore(
            np.arange(5), np.arange(10, 14), [0.1, 0.1, 0.2, 0.05], rng=np.random.default_rng(s), draws=1, **options
        )
        for s in range(1, 4001)
    ]
    drawn = np.stack([found.places for found in lists])
    np.testing.assert_allclose(explored.propensity, (drawn == explored.places).mean(axis=0), atol=0.03)
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
