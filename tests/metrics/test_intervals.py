"""Shares with intervals: values by hand, intervals beside the plain bootstrap of `coldstart.metrics.ranking`."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.metrics import ranking
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
    assert difference(([1, 0, 1], [1, 1, 1]), ([1, 0, 1], [1, 1, 1])) == Measure(0.0, 0.0, 0.0, 3)
    with pytest.raises(ValueError, match="2 items before and 1 after"):
        difference(([1, 0], None), ([1], None))


def test_draws_are_the_same_for_one_seed() -> None:
    values = [1, 0, 1, 1, 0]
    assert share(values, seed=1) == share(values, seed=1)
