"""Interests, likeness and decay of histories, against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from coldstart.core.vectors import unit
from coldstart.recommend.users import decay_weights, interests, medoids, most_similar


def bunches(seed=0, sizes=(12, 7, 4), dim=6):
    rng = np.random.default_rng(seed)
    centres = np.eye(dim, dtype=np.float32)[: len(sizes)] * 3
    rows = np.concatenate([c + 0.3 * rng.normal(size=(n, dim)) for c, n in zip(centres, sizes, strict=True)])
    return rows.astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def test_weights_halve_with_every_half_life():
    found = decay_weights(np.array([1.0, 2.0, 4.0, 1.0]), np.array([0, 10, 20, -5]), 10)
    assert found.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert decay_weights(np.array([1.0, 2.0]), np.array([5, 6]), None).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"^a half-life of 0 s: give one above 0$"):
        decay_weights(np.ones(1), np.ones(1), 0)


def test_interests_are_rows_of_the_history_by_share():
    rows, truth = bunches()
    found, shares = interests(rows, np.ones(len(rows)), np.zeros(len(rows)), count=3, half_life_s=None)
    own = [int(np.flatnonzero((rows == vector).all(axis=1))[0]) for vector in found]
    assert [int(truth[place]) for place in own] == [0, 1, 2]
    np.testing.assert_allclose(shares, np.array([12, 7, 4]) / 23, rtol=1e-6)


def test_what_is_old_weighs_less():
    rows, truth = bunches()
    ages = np.where(truth == 2, 0.0, 100.0)
    own = []
    for half_life_s in (10, 30, None):
        found, shares = interests(rows, np.ones(len(rows)), ages, count=1, half_life_s=half_life_s)
        own.append(int(truth[np.flatnonzero((rows == found[0]).all(axis=1))[0]]))
        assert shares.tolist() == [1.0]
    assert own == [2, 2, 0]


@pytest.mark.parametrize("seed", range(4))
def test_medoids_are_near_the_best_of_all_sets(seed):
    """Against every set of 3: the cost of the alternating rounds is within 5 % of the least."""
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(14, 3)).astype(np.float32), rng.random(14)
    far = 1 - unit(rows) @ unit(rows).T

    def cost(chosen):
        return float(far[list(chosen)].min(axis=0) @ weights)

    least = min(cost(chosen) for chosen in combinations(range(14), 3))
    places, owners = medoids(rows, weights, 3)
    assert cost(places) <= 1.05 * least
    assert owners.tolist() == far[places].argmin(axis=0).tolist()


def test_fewer_different_vectors_than_interests():
    rows = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
    found, shares = interests(rows, np.ones(6), np.zeros(6), count=5, half_life_s=None)
    assert found.tolist() == [[1, 0], [0, 1]]
    assert shares.tolist() == [0.5, 0.5]
    none = interests(np.empty((0, 2), np.float32), np.empty(0), np.empty(0), count=3, half_life_s=None)
    assert none[0].shape == (0, 2) and none[1].shape == (0,)


def test_most_alike_by_cosine():
    history = np.array([[1, 0], [0, 5], [2, 2], [0, 0]], np.float32)
    places, cosines = most_similar(np.array([0, 3], np.float32), history, 2)
    assert places.tolist() == [1, 2]
    np.testing.assert_allclose(cosines, [1, 0.5**0.5], rtol=1e-6)
