"""Shares with intervals: values by hand, intervals beside the plain bootstrap of `coldstart.metrics.ranking`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coldstart.metrics import ranking, two_way
from coldstart.metrics.intervals import Measure, difference, share


def test_a_share_is_the_sum_of_parts_over_the_sum_of_wholes() -> None:
    found = share([1, 0, 2], [1, 1, 2])
    assert found is not None
    assert (found.value, found.n) == (0.75, 4)
    assert 0 <= found.low <= 0.75 <= found.high <= 1


def test_without_wholes_it_is_the_mean_and_its_interval_that_of_metrics() -> None:
    values = np.random.default_rng(0).random(300) < 0.4
    found, plain = share(values), ranking.bootstrap(values)
    assert found is not None
    assert found.value == plain.value
    assert found.low == pytest.approx(plain.low, abs=0.01)
    assert found.high == pytest.approx(plain.high, abs=0.01)
    assert found.n == 300


def test_of_nothing_there_is_no_share() -> None:
    assert share([]) is None
    assert share([0, 0], [0, 0]) is None
    assert difference(([1], [1]), ([0], [0])) is None


def test_groups_are_drawn_whole() -> None:
    values = np.repeat([0, 1], 50)
    alone, together = share(values), share(values, groups=np.repeat([0, 1], 50).tolist())
    assert alone is not None
    assert together == Measure(0.5, 0.0, 1.0, 100)  # two groups: a quarter of the draws holds one of them alone
    assert alone.high < 0.7


def test_a_difference_is_of_the_same_items() -> None:
    better = difference(([0, 0, 1, 0], None), ([1, 1, 1, 1], None))
    assert better is not None
    assert (better.value, better.n) == (0.75, 4)
    assert better.low > 0
    assert difference(([1, 0, 1], [2, 1, 2]), ([1, 0, 1], [2, 1, 2])).value == 0  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="2 items before and 1 after"):
        difference(([1, 0], None), ([1], None))


def test_draws_are_the_same_for_one_seed() -> None:
    values = [1, 0, 1, 1, 0]
    assert share(values, seed=1) == share(values, seed=1)


@pytest.mark.parametrize("hits", [0, 43])
def test_an_interval_has_width_where_none_or_all_are_right(hits: int) -> None:
    """As `scipy.stats.binomtest(hits, 43).proportion_ci(method="wilson")` gives them."""
    values = np.full(43, hits == 43, float)
    bounds = (0.91799, 1.0) if hits else (0.0, 0.08201)
    rows = np.repeat(values, 3)
    groups = np.repeat(np.arange(43), 3).tolist()
    likes = two_way.resample(values[:, None], values[:, None], np.ones(43)).interval(0)
    found: list[Any] = [
        ranking.bootstrap(values),
        ranking.bootstrap(rows, groups=groups),  # three rows of one item are one piece of evidence
        share(values),
        share(rows, groups=groups),
        share(3 * values, np.full(43, 3)),
        likes,
        likes.items,
    ]
    for one in found:
        assert one is not None
        assert (one.low, one.high) == pytest.approx(bounds, abs=1e-5)
    near = ranking.bootstrap(np.arange(43) < 42)
    assert (near.low, near.high) == pytest.approx((0.87941, 0.99588), abs=1e-5)  # no bootstrap reaches below 93 %


def test_a_difference_that_is_the_same_in_all_has_width() -> None:
    """None of 43 differs otherwise: at most 0.08201 do, by Wilson's bound for none of 43."""
    none, every = np.zeros(43), np.ones(43)
    for before, after, bounds in (
        (every, every, (-0.08201, 0.08201)),
        (none, every, (0.91799, 1.0)),
        (every, none, (-1.0, -0.91799)),
    ):
        one = two_way.resample(np.stack([before, after], 1), np.stack([before, after], 1), np.ones(43))
        for found in (
            ranking.paired(before, after),
            difference((before, None), (after, None)),
            one.difference(1, 0)[0],
        ):
            assert found is not None
            assert (found.low, found.high) == pytest.approx(bounds, abs=1e-5)
    assert ranking.paired(none + 3, every + 3) == ranking.Interval(1.0, 1.0, 1.0)  # no share
