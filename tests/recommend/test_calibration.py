"""Cold and warm scores side by side, against plain means, deviations and sorted lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.recommend.model.fitted import Calibration, fit_calibration, restore_calibration


def _shop(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Users, items whose cold ones have shrunk and moved, and which are cold."""
    rng = np.random.default_rng(seed)
    users = rng.normal(size=(80, 6)).astype(np.float32)
    items = rng.normal(size=(120, 6)).astype(np.float32)
    cold = rng.random(120) < 0.25
    items[cold] = 0.3 * items[cold] - 0.5
    return users, items, cold


def test_cold_scores_get_the_mean_of_warm_ones_for_every_user_and_their_spread_for_the_median_one() -> None:
    users, items, cold = _shop()
    found = fit_calibration(users, items, cold)
    scores = found.users(users) @ found.items(items, cold).T
    np.testing.assert_allclose(scores[:, cold].mean(axis=1), scores[:, ~cold].mean(axis=1), atol=1e-5)
    ratios = scores[:, cold].std(axis=1) / scores[:, ~cold].std(axis=1)
    np.testing.assert_allclose(np.median(ratios), 1, rtol=0.02)
    np.testing.assert_allclose(scores[:, ~cold], users @ items[~cold].T, atol=1e-5)


def test_order_within_a_slice_stays() -> None:
    users, items, cold = _shop(1)
    liked = csr_matrix(np.random.default_rng(1).random((80, 120)) < 0.1, dtype=np.float32)
    before = users @ items.T
    for found in (fit_calibration(users, items, cold), fit_calibration(users, items, cold, liked)):
        after = found.users(users) @ found.items(items, cold).T
        for part in (cold, ~cold):
            np.testing.assert_array_equal(np.argsort(before[:, part], axis=1), np.argsort(after[:, part], axis=1))


def test_with_likes_the_share_of_cold_items_among_the_best_is_that_among_the_liked() -> None:
    users, items, cold = _shop(2)
    rng = np.random.default_rng(2)
    chance = np.where(cold, 0.05, 0.1)
    liked = csr_matrix(rng.random((80, 120)) < chance, dtype=np.float32)
    wanted = cold[liked.tocoo().col].mean()

    def share(found: Calibration) -> float:
        scores = found.users(users) @ found.items(items, cold).T
        return float(cold[np.argsort(-scores, axis=1)[:, :20]].mean())

    assert share(Calibration.none()) < wanted - 0.05
    assert abs(share(fit_calibration(users, items, cold, liked)) - wanted) < 0.005


def test_none_changes_no_score_and_a_user_without_a_history_stays_at_zero() -> None:
    users, items, cold = _shop(3)
    users[0] = 0
    none = Calibration.none()
    np.testing.assert_array_equal(none.items(items, cold), np.c_[items, np.zeros(120, np.float32)])
    np.testing.assert_array_equal(none.users(users)[0], np.zeros(7, np.float32))
    np.testing.assert_allclose(none.users(users) @ none.items(items, cold).T, users @ items.T, atol=1e-6)


def test_where_nothing_can_be_matched_nothing_changes() -> None:
    users, items, cold = _shop(4)
    alone = np.zeros(120, bool)
    alone[3] = True
    for found in (
        fit_calibration(users, items, alone),
        fit_calibration(users, items, ~alone),
        fit_calibration(0 * users, items, cold),
        fit_calibration(users[:0], items, cold),
    ):
        assert (found.scale, found.shift, found.offset.tolist()) == (1.0, 0.0, [0.0])


def test_it_comes_back_from_its_arrays() -> None:
    users, items, cold = _shop(5)
    found = fit_calibration(users, items, cold, csr_matrix(np.eye(80, 120, dtype=np.float32)))
    again = restore_calibration(found.arrays())
    np.testing.assert_array_equal(again.items(items, cold), found.items(items, cold))
