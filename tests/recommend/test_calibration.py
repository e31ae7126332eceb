"""Cold and warm scores side by side, in the basis of the final fit: on fits that are known, and on made-up shops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.recommend_mixed import compared, world
from coldstart.recommend.model.calibration import (
    Calibration,
    PairedScores,
    Scored,
    fit_calibration,
    restore_calibration,
)
from coldstart.recommend.model.fitted import Behaviour
from coldstart.recommend.model.selection import SelectionSettings, select_model

Floats = NDArray[np.float32]
SHRUNK, MOVED = 0.3, -0.5


def _paired(seed: int = 0, users: int = 80, dim: int = 9, unit: float = 7.0) -> tuple[PairedScores, Floats]:
    """A fold whose basis has more dimensions than the final one and another unit; its cold vectors are shorter and
    moved. And the final vectors of all items.
    """
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(users, 6)).astype(np.float32)
    items = rng.normal(size=(120, 6)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(dim, 6)))[0].T.astype(np.float32)
    held, trained = items[:30], items[30:]
    fold = Scored(unit * people @ turn, (SHRUNK * held + MOVED) @ turn, trained @ turn)
    return PairedScores(fold, Scored(people, held, trained)), items


def test_a_cold_vector_gets_the_place_that_the_same_item_has_when_it_is_warm() -> None:
    paired, items = _paired()
    found = fit_calibration([paired, _paired(0, unit=0.2)[0]])
    assert (found.scale, found.shift) == (pytest.approx(1 / SHRUNK, rel=1e-3), 0)
    cold = SHRUNK * items[:30] + MOVED
    scores = found.users(paired.final.users) @ found.items(cold, np.ones(30, bool)).T
    wanted = paired.final.users @ items[:30].T
    np.testing.assert_allclose(scores.std(axis=1), wanted.std(axis=1), rtol=1e-3)
    gap = scores.mean(axis=1) - wanted.mean(axis=1)
    before = (paired.final.users @ cold.T).mean(axis=1) - wanted.mean(axis=1)
    assert np.abs(gap).mean() < 0.35 * np.abs(before).mean()  # the ridge leaves a tenth, scaled by 1 / 0.3


def test_the_basis_of_a_fold_does_not_matter() -> None:
    one, items = _paired(1)
    other, _ = _paired(1, dim=40, unit=0.01)
    first, second = fit_calibration([one]), fit_calibration([other])
    assert len(first.offset) == len(second.offset) == items.shape[1]
    assert first.scale == pytest.approx(second.scale, rel=1e-4)
    np.testing.assert_allclose(first.offset, second.offset, atol=1e-3)


def test_few_users_move_the_offset_by_little_where_no_user_is() -> None:
    paired, items = _paired(2, users=2)
    found = fit_calibration([paired])
    middle = (1 - found.scale) * items[:30].mean(axis=0)
    span = np.linalg.qr(paired.final.users.T)[0]
    moved = found.offset - middle
    np.testing.assert_allclose(moved - span @ (span.T @ moved), 0, atol=1e-4)


def test_the_order_of_cold_items_and_that_of_warm_ones_stay() -> None:
    paired, items = _paired(3)
    cold = np.arange(120) < 30
    found, users = fit_calibration([paired]), paired.final.users
    before, after = users @ items.T, found.users(users) @ found.items(items, cold).T
    for part in (cold, ~cold):
        np.testing.assert_array_equal(np.argsort(before[:, part], axis=1), np.argsort(after[:, part], axis=1))
    np.testing.assert_allclose(after[:, ~cold], before[:, ~cold], atol=1e-5)


def test_none_changes_no_score_and_a_user_without_a_history_stays_at_zero() -> None:
    paired, items = _paired(4)
    users = paired.final.users.copy()
    users[0] = 0
    none, cold = Calibration.none(), np.arange(120) < 30
    np.testing.assert_array_equal(none.items(items, cold), np.c_[items, np.zeros(120, np.float32)])
    np.testing.assert_array_equal(none.users(users)[0], np.zeros(7, np.float32))
    np.testing.assert_allclose(none.users(users) @ none.items(items, cold).T, users @ items.T, atol=1e-6)


def test_where_nothing_can_be_compared_nothing_changes() -> None:
    paired, _ = _paired(5)
    fold, final = paired.fold, paired.final
    nobody = Scored(fold.users[:0], fold.held, fold.trained), Scored(final.users[:0], final.held, final.trained)
    alone = Scored(fold.users, fold.held[:1], fold.trained), Scored(final.users, final.held[:1], final.trained)
    silent = Scored(0 * fold.users, fold.held, fold.trained), Scored(0 * final.users, final.held, final.trained)
    even = Scored(fold.users, 0 * fold.held + 1, fold.trained), final
    for one in (nobody, alone, silent, even):
        found = fit_calibration([PairedScores(*one)])
        assert (found.scale, found.shift, found.offset.tolist()) == (1.0, 0.0, [0.0])
    assert fit_calibration([]).scale == 1.0


def test_it_comes_back_from_its_arrays() -> None:
    paired, items = _paired(6)
    found = fit_calibration([paired])
    again, cold = restore_calibration(found.arrays()), np.arange(120) < 30
    np.testing.assert_array_equal(again.items(items, cold), found.items(items, cold))


@pytest.mark.slow
@pytest.mark.parametrize(("users", "items", "likes"), [(5, 40, 8), (40, 70, 9)])
def test_a_small_shop_has_scores_of_cold_items_whatever_the_widths_of_its_folds(
    users: int, items: int, likes: int
) -> None:
    shop = world(users, items, likes, seed=0)
    met = np.flatnonzero(shop.rows.counts())
    content = shop.content.take(met)
    settings = SelectionSettings(candidates={"kernel": {}}, blend=False, warm_min=2)
    fitted: Behaviour = select_model(shop.rows.over(content.item_ids), content, settings).behaviour
    vectors = fitted.items(shop.content)
    assert len(fitted.calibration.offset) == vectors.shape[1] - 1 == fitted.dim - 1
    plain = replace(fitted, calibration=Calibration.none()).items(shop.content)
    moved = np.abs(vectors - plain).max(axis=1) > 1e-6
    np.testing.assert_array_equal(moved, ~fitted.is_warm(shop.content.item_ids))


@pytest.mark.slow
def test_mixed_lists_have_the_right_share_of_cold_items_rather_after_than_before() -> None:
    """Reference: the true preferences of the simulation."""
    found = [compared((40, 70, 9), seed, {"ridge": {}}) for seed in range(4)]
    ndcg, share, preference = (
        np.array([[one[place][measure] for place in (0, 1)] for one in found]) for measure in found[0][0]
    )
    assert ndcg[:, 1].mean() > ndcg[:, 0].mean()
    assert abs(share[:, 1].mean()) < 0.75 * abs(share[:, 0].mean())
    assert abs(preference[:, 1].mean()) < abs(preference[:, 0].mean())
