"""The best items of each user, against numpy's stable argsort of all scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from coldstart.recommend.model import scoring
from coldstart.recommend.model.scoring import Scorer, top_k


@pytest.fixture(params=[0, scoring.FEW_USERS], ids=["torch", "few by numpy"], autouse=True)
def few(request, monkeypatch):
    """Both ways of few users."""
    monkeypatch.setattr(scoring, "FEW_USERS", request.param)


def brute(users, items, k, exclude=None, mask=None):
    """Stable argsort of all scores; -1 and -inf where fewer are allowed."""
    scores = (users.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)
    if exclude is not None:
        scores[exclude.nonzero()] = -np.inf
    if mask is not None:
        scores[:, ~mask] = -np.inf
    scores = np.pad(scores, ((0, 0), (0, max(0, k - len(items)))), constant_values=-np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isneginf(values), -1, order), values


def whole(rng, *shape, low=-3, high=4):
    """Small whole numbers: products are exact in float32, and ties abound."""
    return rng.integers(low, high, shape).astype(np.float32)


@pytest.mark.parametrize(("users", "items", "k"), [(7, 40, 5), (100, 333, 20), (3, 10, 25), (1, 17, 1), (70, 200, 200)])
def test_places_and_scores_equal_a_stable_sort_with_ties(users, items, k):
    rng = np.random.default_rng(users)
    left, right = whole(rng, users, 6), whole(rng, items, 6)
    exclude = csr_matrix(rng.random((users, items)) < 0.2, dtype=np.float32)
    mask = rng.random(items) < 0.7
    for leave_out in (None, exclude):
        for allowed in (None, mask):
            expected = brute(left, right, k, leave_out, allowed)
            found = top_k(left, right, k, exclude=leave_out, mask=allowed, device="cpu")
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])


def test_many_blocks_give_what_one_gives(monkeypatch):
    monkeypatch.setattr(scoring, "ITEMS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    left, right = whole(rng, 90, 5), whole(rng, 501, 5)
    exclude = csr_matrix(rng.random((90, 501)) < 0.3, dtype=np.float32)
    found = top_k(left, right, 10, exclude=exclude, device="cpu", block_bytes=4 * 64 * 7)
    expected = brute(left, right, 10, exclude)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("order", ["rising", "falling", "equal"])
def test_the_order_of_the_items_changes_nothing(monkeypatch, order):
    monkeypatch.setattr(scoring, "ITEMS_AT_ONCE", 32)
    scores = np.arange(300, dtype=np.float32)
    items = {"rising": scores, "falling": scores[::-1], "equal": np.zeros(300, np.float32)}[order].reshape(-1, 1)
    users = np.array([[1.0], [-1.0], [0.0], [-0.0]], np.float32)
    expected = brute(users, items, 7)
    found = top_k(users, items, 7, device="cpu")
    np.testing.assert_array_equal(found[0], expected[0])


def test_real_numbers_agree_to_rounding():
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(50, 64)).astype(np.float32), rng.normal(size=(5000, 64)).astype(np.float32)
    found, expected = top_k(users, items, 30, device="cpu"), brute(users, items, 30)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert (found[0] == expected[0]).mean() > 0.999


def test_nothing_allowed_is_minus_one_and_minus_infinity():
    places, scores = top_k(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), 2, mask=np.zeros(4, bool))
    assert places.tolist() == [[-1, -1], [-1, -1]]
    assert np.isneginf(scores).all()
    none = top_k(np.ones((2, 3), np.float32), np.empty((0, 3), np.float32), 2)
    assert none[0].tolist() == [[-1, -1], [-1, -1]]


def test_what_is_stored_is_left_out_even_as_zero():
    exclude = csr_matrix((np.zeros(1, np.float32), ([0], [1])), shape=(1, 3))
    assert top_k(np.ones((1, 1), np.float32), np.ones((3, 1), np.float32), 3, exclude=exclude)[0].tolist() == [
        [0, 2, -1]
    ]


def test_shapes_and_values_that_do_not_fit():
    scorer = Scorer(np.ones((4, 3), np.float32), device="cpu")
    with pytest.raises(ValueError, match=r"^users of shape \(2, 2\) must be finite rows \[B, 3\]$"):
        scorer.top_k(np.ones((2, 2), np.float32), 1)
    with pytest.raises(ValueError, match=r"^users of shape \(1, 3\) must be finite rows \[B, 3\]$"):
        scorer.top_k(np.full((1, 3), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match=r"^exclude is \(1, 3\), and there are 1 users and 4 items$"):
        scorer.top_k(np.ones((1, 3), np.float32), 1, exclude=csr_matrix((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"^mask is \(3,\), and there are 4 items$"):
        scorer.top_k(np.ones((1, 3), np.float32), 1, mask=np.ones(3, bool))
    with pytest.raises(ValueError, match=r"^items of shape \(1, 1\) must be finite rows \[N, D\]$"):
        Scorer(np.array([[np.inf]], np.float32))
