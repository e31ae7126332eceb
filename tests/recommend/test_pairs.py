"""Pairs of items that users like together, against loops over users."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from coldstart.errors import ColdstartError
from coldstart.recommend.model.pairs import item_pairs, user_pairs


def _liked(users: int = 60, items: int = 25, seed: int = 0) -> csr_matrix:
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((users, items)) < rng.random(items) * 0.5).astype(np.float32))


def test_cosine_is_common_users_by_the_root_of_both_counts() -> None:
    liked = _liked()
    pairs, scores = item_pairs(liked, min_together=3, top=100, cap=10**6)
    dense = liked.toarray()
    expected = {}
    for first, second in combinations(range(25), 2):
        both = float((dense[:, first] * dense[:, second]).sum())
        if both >= 3:
            expected[first, second] = both / (dense[:, first].sum() * dense[:, second].sum()) ** 0.5
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)
    np.testing.assert_allclose(scores, [expected[pair] for pair in sorted(expected)], rtol=1e-5)
    assert pairs.dtype == np.int32 and scores.dtype == np.float32


def test_swing_sums_over_pairs_of_users_who_agree_on_little_else() -> None:
    liked = _liked(30, 12)
    pairs, scores = item_pairs(liked, min_together=2, top=100, cap=10**6, kind="swing", smoothing=0.5)
    dense = liked.toarray()
    for (first, second), score in zip(pairs.tolist(), scores, strict=True):
        both = np.flatnonzero(dense[:, first] * dense[:, second])
        expected = sum(1 / (0.5 + dense[one] @ dense[other]) for one, other in combinations(both, 2))
        assert score == pytest.approx(expected, rel=1e-5)
    assert len(pairs) > 5


def test_an_item_has_its_best_companions_alone_and_is_in_no_more_pairs_than_the_cap() -> None:
    liked = _liked(200, 40)
    every, scores = item_pairs(liked, top=1000, cap=10**6)
    best, _ = item_pairs(liked, top=2, cap=10**6)
    table = {tuple(pair): score for pair, score in zip(every.tolist(), scores.tolist(), strict=True)}
    for first, second in best.tolist():
        own = table[first, second]
        better = [sum(score > own for pair, score in table.items() if item in pair) for item in (first, second)]
        assert min(better) < 2
    capped, _ = item_pairs(liked, top=1000, cap=4)
    assert np.bincount(capped.ravel()).max() <= 4
    assert {tuple(pair) for pair in capped.tolist()} <= set(table)


def test_long_histories_are_sampled_by_the_seed() -> None:
    liked = csr_matrix(np.ones((5, 30), np.float32))
    first, again, other = (item_pairs(liked, history=4, min_together=1, seed=seed)[0] for seed in (0, 0, 1))
    assert len(first) <= 5 * 6
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_liked_item_goes_with_the_most_alike_of_the_same_history() -> None:
    liked = _liked(20, 12)
    vectors = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0
    expected: dict[tuple[int, int], int] = {}
    for row in liked.toarray():
        own = [item for item in np.flatnonzero(row).tolist() if item != 3]
        for item in own:
            others = [other for other in own if other != item]
            if others:
                mate = max(others, key=lambda other: float(vectors[item] @ vectors[other]))
                pair = (min(item, mate), max(item, mate))
                expected[pair] = expected.get(pair, 0) + 1
    pairs, scores = user_pairs(liked, vectors, cap=10**6)
    assert {tuple(pair): score for pair, score in zip(pairs.tolist(), scores, strict=True)} == expected


def test_of_a_long_history_the_latest_count() -> None:
    liked = csr_matrix(np.ones((3, 10), np.float32))
    times = csr_matrix(np.tile(np.arange(1, 11, dtype=np.float64), (3, 1)))
    pairs, _ = user_pairs(liked, np.eye(10, dtype=np.float32), times=times, last=3)
    assert set(pairs.ravel().tolist()) <= {7, 8, 9}


def test_without_likes_there_are_no_pairs() -> None:
    for pairs, scores in (
        item_pairs(csr_matrix((4, 5), dtype=np.float32)),
        user_pairs(csr_matrix((4, 5), dtype=np.float32), np.eye(5, dtype=np.float32)),
    ):
        assert pairs.shape == (0, 2) and scores.shape == (0,)


def test_another_kind_is_refused() -> None:
    with pytest.raises(ColdstartError) as caught:
        item_pairs(_liked(), kind="pmi")  # type: ignore[arg-type]
    assert str(caught.value) == "no pairs by 'pmi': choose cosine or swing"
