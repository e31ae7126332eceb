"""Intervals over users and items, p-values and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import ttest_rel

from coldstart.metrics.ranking import bootstrap, measure_lists, paired
from coldstart.metrics.two_way import Resampled, holm, list_intervals, resample


def test_holm_by_hand() -> None:
    """The smallest of four is multiplied by 4, the next by 3; none falls below one before it, and none passes 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_users_are_drawn_as_metrics_draws_them() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, 2))
    values[:, 1] += 0.1
    found = resample(values, np.ones((5, 2)), np.ones(5), draws=4000)
    for column in range(2):
        own, theirs = found.interval(column).users, bootstrap(values[:, column], resamples=4000)
        assert own.value == pytest.approx(theirs.value)
        assert (own.low, own.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    own, theirs = found.difference(1, 0)[0].users, paired(values[:, 0], values[:, 1], resamples=4000)
    assert (own.value, own.low, own.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=0.005)


def test_few_items_make_wide_intervals() -> None:
    """A thousand users whose answers hang on five items: drawing users alone sees none of it."""
    shares = np.full(5, 200.0)
    parts = np.array([[200.0], [200.0], [0.0], [0.0], [200.0]])
    values = np.concatenate([np.ones(600), np.zeros(400)])[:, None]
    found = resample(values, parts, shares).interval(0)
    assert found.value == pytest.approx(0.6)
    assert found.over == "items"
    assert (found.items.low, found.items.high) == (0.2, 1.0)
    assert found.users.high - found.users.low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 1000), abs=0.01)
    assert (found.low, found.high) == (found.items.low, found.items.high)


@pytest.mark.slow
def test_p_values_are_near_those_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=400)
    second = first + rng.normal(0.1, 1, 400)
    values = np.stack([first, second], axis=1)
    found = resample(values, values, np.full(400, 1.0), draws=20_000)
    assert found.difference(1, 0)[1] == pytest.approx(ttest_rel(second, first).pvalue, abs=0.01)


def test_where_draws_do_not_vary() -> None:
    values = np.stack([np.zeros(50), np.ones(50), np.ones(50)], axis=1)
    found = resample(values, values, np.ones(50), draws=99)
    assert found.difference(1, 0)[1] == 1 / 99
    assert found.difference(2, 1)[1] == 1
    assert isinstance(found, Resampled)


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"^there is nothing to resample$"):
        resample(np.empty((0, 1)), np.ones((1, 1)), np.ones(1))
    with pytest.raises(ValueError, match=r"^there is nothing to resample$"):
        resample(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))


def test_folds_are_joined_with_intervals_over_users_and_items() -> None:
    rng = np.random.default_rng(3)
    folds = []
    for items in (30, 40):
        relevant = csr_matrix(rng.random((200, items)) < 0.1, dtype=np.float32)
        lists = np.argsort(rng.random((200, items)), axis=1)[:, :20].astype(np.int64)
        folds.append((lists, relevant))
    found = list_intervals(folds, ("recall@20", "ndcg@20"))
    values = [measure_lists(lists, relevant, [20])["recall@20"] for lists, relevant in folds]
    assert found["recall@20"].value == pytest.approx(np.nanmean(np.concatenate(values)))
    assert found["recall@20"].low < found["recall@20"].value < found["recall@20"].high
    assert found["recall@20"].to_dict()["over"] in ("users", "items")
    assert set(found) == {"recall@20", "ndcg@20"}
