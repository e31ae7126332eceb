"""Batches of likes, users by their histories, and the start by least squares, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from coldstart.recommend.model import Problem
from coldstart.recommend.model.factors import als
from coldstart.recommend.model.towers import Likes


def _likes(seed: int = 0) -> tuple[Likes, Problem]:
    rng = np.random.default_rng(5)
    met = (rng.random((50, 40)) < 0.3).astype(np.float32)
    met[:, :4] = 0
    liked = met * (rng.random(met.shape) < 0.6)
    features = rng.normal(size=(40, 6)).astype(np.float32)
    features[7] = 0
    matrix = csr_matrix(liked.astype(np.float32))
    problem = Problem(matrix, features, als(matrix, dim=5), (None,) * 40, csr_matrix(met))
    return Likes("some", problem, seed), problem


@pytest.mark.slow
def test_an_epoch_holds_each_like_of_a_known_item_once_with_negatives_that_have_interactions() -> None:
    likes, problem = _likes()
    dense = problem.matrix.toarray() > 0
    dense[:, 7] = False
    draws = list(likes.batches(16, 9, 10**6))
    pairs = sorted((int(u), int(i)) for draw in draws for u, i in zip(draw.users, draw.items, strict=True))
    assert pairs == sorted(zip(*(part.tolist() for part in np.nonzero(dense)), strict=True))
    for draw in draws:
        assert draw.others.min() >= 4 and 7 not in draw.others and len(draw.others) == 9
        assert np.array_equal(draw.liked, problem.matrix.toarray()[draw.users][:, draw.others] > 0)
    assert sum(len(draw.users) for draw in likes.batches(16, 9, 20)) == 20


@pytest.mark.slow
def test_scaled_users_and_items_score_as_the_teacher_does() -> None:
    likes, problem = _likes()
    folded = likes.fold_in.users(problem.matrix)
    np.testing.assert_allclose(likes.users @ likes.items.T, folded @ problem.teacher.items.T, atol=1e-5)
    np.testing.assert_allclose(np.mean((likes.users**2).sum(axis=1)), 1, rtol=1e-4)


@pytest.mark.slow
def test_the_start_is_ridge_with_items_weighted_by_their_users() -> None:
    likes, problem = _likes()
    rows = problem.features.astype(np.float64)
    weights = likes.counts / (likes.counts + 10)
    penalty = np.trace((weights[:, None] * rows).T @ rows) / 6
    solved = Ridge(alpha=penalty, fit_intercept=False).fit(rows, likes.items, sample_weight=weights)
    np.testing.assert_allclose(likes.ridge_on_content(), solved.coef_.T, atol=1e-5)
