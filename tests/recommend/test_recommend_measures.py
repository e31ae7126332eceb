"""Measures of lists beside being right, against plain loops and NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics.pairwise import cosine_similarity

from coldstart.core.interactions import interactions
from coldstart.metrics import two_way
from coldstart.metrics.ranking import measure_lists
from coldstart.recommend.evaluate import measures, robust

LISTS = np.array([[0, 1, 2], [2, 0, -1], [3, -1, -1], [-1, -1, -1]], np.int64)


def test_coverage_and_exposure_count_places() -> None:
    counts = measures.times_shown(LISTS, 6)
    assert counts.tolist() == [2, 1, 2, 1, 0, 0]
    assert measures.coverage(counts, np.ones(6, bool)) == pytest.approx(4 / 6)
    chosen = np.array([True, False, False, True, False, False])
    assert measures.exposure(counts, chosen) == pytest.approx(3 / 6)
    assert math.isnan(measures.exposure(np.zeros(6, np.int64), chosen))


@pytest.mark.parametrize("seed", range(3))
def test_gini_is_half_the_relative_mean_difference(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 30, 50)
    expected = np.abs(counts[:, None] - counts[None]).sum() / (2 * len(counts) ** 2 * counts.mean())
    assert measures.gini(counts, np.ones(50, bool)) == pytest.approx(expected)
    assert measures.gini(np.full(9, 4), np.ones(9, bool)) == pytest.approx(0)
    assert measures.gini(np.zeros(9, np.int64), np.ones(9, bool)) == 0


def test_diversity_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0
    lists = np.array([rng.choice(30, 6, replace=False) for _ in range(9)])
    lists[0, 4:] = -1
    lists[1, 1:] = -1
    found = measures.diversity(lists, vectors)
    for row, own in enumerate(lists):
        cosines = cosine_similarity(vectors[own[own >= 0]])
        if len(cosines) < 2:
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(1 - cosines[~np.eye(len(cosines), dtype=bool)].mean(), abs=1e-6)


def test_novelty_is_the_mean_surprise() -> None:
    found = measures.novelty(LISTS, np.array([3, 0, 1, 7, 0, 0]), 7)
    assert found[0] == pytest.approx(-(math.log2(4 / 8) + math.log2(1 / 8) + math.log2(2 / 8)) / 3)
    assert found[2] == 0
    assert np.isnan(found[3])


def test_what_items_add_is_what_users_have() -> None:
    rng = np.random.default_rng(2)
    lists = np.argsort(rng.random((40, 25)), axis=1)[:, :20]
    lists[:5, 10:] = -1
    wanted = (rng.random((40, 25)) < 0.2).astype(np.float32)
    wanted[3] = 0
    relevant = csr_matrix(wanted)
    users = measure_lists(lists, relevant, [10])
    items = two_way.contributions_by_item(lists, relevant, 10)
    for name in ("recall@10", "ndcg@10", "mrr@10", "hit@10"):
        assert items[name].sum() == pytest.approx(np.nansum(users[name]))
    assert two_way.shares_by_item(relevant).sum() == pytest.approx(np.isfinite(users["hit@10"]).sum())
    hits = [[column in row[:10] and wanted[place, column] for place, row in enumerate(lists)] for column in range(25)]
    assert items["found@10"].tolist() == np.sum(hits, axis=1).tolist()


def test_the_early_audience_is_the_first_users_by_time() -> None:
    rows = interactions(
        ["a", "b", "c", "d", "a", "b", "c"],
        ["x", "x", "x", "x", "x", "y", "z"],
        [30, 10, 20, 40, 5, 1, 2],
    )
    found = measures.early_audience(rows, np.array([2, 0]), 3)
    assert found.toarray().tolist() == [[0, 0, 1, 0], [1, 1, 1, 0]]
    assert measures.early_audience(rows, np.array([0]), 1).toarray().tolist() == [[1, 0, 0, 0]]


def test_the_most_liked_leave_answers_and_lists() -> None:
    relevant = csr_matrix(np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]], np.float32))
    assert robust.most_liked(relevant, 2).tolist() == [0, 3]
    assert robust.most_liked(relevant).tolist() == [0, 1, 3]  # an item that nobody liked is none of them
    rest = robust.without_answers(relevant, np.array([0, 3]))
    assert rest.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    lists = np.array([[3, 1, 0, 2], [2, 0, -1, -1]])
    assert robust.without_items(lists, np.array([0, 3]), 4).tolist() == [[1, 2, -1, -1], [2, -1, -1, -1]]
    assert robust.without_items(lists, np.array([], np.intp), 4).tolist() == lists.tolist()


def test_liked_items_are_grouped_by_their_likes() -> None:
    likes = np.concatenate([np.zeros(50), np.full(40, 9), np.arange(1, 61)]).astype(np.int64)
    groups = robust.popularity_groups(likes)
    assert [(one.least, one.most, len(one.places)) for one in groups] == [(1, 9, 49), (10, 60, 51)]
    assert sum(one.likes for one in groups) == likes.sum()
    assert robust.popularity_groups(likes[:92]) == []  # 42 liked items, too few for two groups
    wide = robust.popularity_groups(np.arange(1, 431))
    assert [len(one.places) for one in wide] == [43] * 10
    assert (wide[0].least, wide[-1].most) == (1, 430)
    found = [likes.astype(np.float64), np.where(likes >= 10, likes, 0).astype(np.float64)]
    every, popular = robust.found_shares(found, groups, likes, draws=200, seed=0)
    assert [one.value for one in every] == [1, 1] and [one.value for one in popular] == [0, 1]
    assert 0.9 < popular[1].low < popular[1].high == 1


def test_an_interval_of_found_likes_is_over_items() -> None:
    likes = np.full(60, 10, np.int64)
    groups = robust.popularity_groups(likes)
    half = np.where(np.arange(60) % 2, 10.0, 0.0)
    ((first,),) = robust.found_shares([half], groups, likes, draws=2000, seed=0)
    deviation = (0.25 / 60) ** 0.5
    assert first.value == 0.5
    assert first.high - first.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
