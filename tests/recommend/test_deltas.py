"""Steps of warm items from content towards behaviour, against least squares over all rows written out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.recommend.model.deltas import bounded_deltas

Made = tuple[NDArray[np.float32], NDArray[np.float32], csr_matrix]


def _made(likers: int, seed: int = 0) -> Made:
    """Content of 30 items, which shows half of what they are; 200 users; and likes by all that the items are."""
    rng = np.random.default_rng(seed)
    users = rng.normal(size=(200, 6)).astype(np.float32)
    truth = rng.normal(size=(30, 6)).astype(np.float32)
    scores = users @ truth.T + rng.normal(size=(200, 30))
    liked = np.zeros((200, 30), np.float32)
    liked[np.argsort(-scores, axis=0)[:likers], np.arange(30)] = 1
    content = truth.copy()
    content[:, 3:] = 0
    return content, users, csr_matrix(liked)


def test_a_step_is_the_least_squares_of_its_docstring() -> None:
    content, users, matrix = _made(20)
    rows, goals, weights = [], [], []
    for item in range(30):  # the line, with all rows written out
        likers = users[matrix[:, item].toarray().ravel() > 0]
        rows += [likers @ content[item], users @ content[item]]
        goals += [np.ones(20), np.zeros(200)]
        weights += [np.ones(20), np.full(200, 20 / 200)]
    line = np.polyfit(np.concatenate(rows), np.concatenate(goals), 1, w=np.sqrt(np.concatenate(weights)))
    slope, start = line
    steps = bounded_deltas(content, users, matrix, max_delta=1e9)
    for item in (0, 7):
        likers = users[matrix[:, item].toarray().ravel() > 0]
        guard = np.sqrt(10 * np.mean(users.astype(np.float64) ** 2)) * slope * np.eye(6)
        left = np.concatenate([slope * likers, np.sqrt(20 / 200) * slope * users, guard])
        goal = np.concatenate(
            [
                1 - start - slope * likers @ content[item],
                np.sqrt(20 / 200) * (0 - start - slope * users @ content[item]),
                np.zeros(6),
            ]
        )
        np.testing.assert_allclose(steps[item], np.linalg.lstsq(left, goal, rcond=None)[0], atol=1e-4)


def test_items_with_many_users_move_towards_what_these_like_and_ranking_gains() -> None:
    content, users, matrix = _made(40)
    steps = bounded_deltas(content, users, matrix, max_delta=0.5)
    liked = matrix.toarray().T > 0

    def gap(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean score of an item's users less that of others, in deviations."""
        scores = vectors @ users.T
        apart = [own[yes].mean() - own[~yes].mean() for own, yes in zip(scores, liked, strict=True)]
        found: NDArray[np.float32] = np.array(apart) / scores.std(axis=1)
        return found

    assert np.all(gap(content + steps) > gap(content))


def test_no_step_is_longer_than_its_share_of_the_content() -> None:
    content, users, matrix = _made(40)
    lengths = np.linalg.norm(bounded_deltas(content, users, matrix, max_delta=0.3), axis=1)
    most = 0.3 * np.linalg.norm(content, axis=1)
    assert np.all(lengths <= most * (1 + 1e-5))
    assert np.any(lengths > most * (1 - 1e-5))
    assert not bounded_deltas(content, users, matrix, max_delta=0).any()


def test_few_users_move_an_item_by_less() -> None:
    few, many = (np.linalg.norm(bounded_deltas(*_made(likers), max_delta=1e9), axis=1).mean() for likers in (1, 40))
    assert few < 0.5 * many


def test_items_without_likes_or_content_stay() -> None:
    content, users, matrix = _made(20)
    lonely = matrix.tolil()
    lonely[:, 4] = 0
    content[5] = 0
    users[7] = 0
    steps = bounded_deltas(content, users, lonely.tocsr())
    assert not steps[4].any() and not steps[5].any() and steps[6].any()


def test_scores_that_tell_nothing_of_likes_move_nothing() -> None:
    content, users, matrix = _made(20)
    assert not bounded_deltas(-content, users, matrix).any()
    assert not bounded_deltas(content, 0 * users, matrix).any()
