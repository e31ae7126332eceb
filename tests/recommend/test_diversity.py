"""Re-ranking against brute force: MMR step by step, DPP by determinants of every set; the dial on random data."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from coldstart.core.diversity import RHO, Quota, dpp, intra_list_diversity, mmr, relevance_weight


def problem(seed, count=8, dim=3, lists=None):
    rng = np.random.default_rng(seed)
    shape = (count,) if lists is None else (lists, count)
    return -np.sort(-rng.random(shape), axis=-1), rng.normal(size=(*shape, dim))


def kernel(relevance, vectors, theta):
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = (1 + rows @ rows.T) / 2
    quality = np.exp(theta * relevance)
    return quality[:, None] * ((1 - RHO) * np.eye(len(rows)) + RHO * likeness) * quality


@pytest.mark.parametrize("seed", range(5))
def test_all_relevance_is_plain_ranking(seed):
    relevance, vectors = problem(seed)
    shuffled = np.random.default_rng(seed).permutation(8)
    expected = np.argsort(-relevance[shuffled], kind="stable")[:5].tolist()
    assert mmr(relevance[shuffled], vectors[shuffled], 5, 1.0).tolist() == expected
    assert dpp(relevance[shuffled], vectors[shuffled], 5, 1e9).tolist() == expected


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("window", [2, 10])
def test_mmr_equals_its_formula(lam, window):
    relevance, vectors = problem(3, count=12)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    picked: list[int] = []
    for _ in range(6):
        worth = [
            lam * relevance[i] - (1 - lam) * max((rows[i] @ rows[j] for j in picked[-window:]), default=0)
            if i not in picked
            else -np.inf
            for i in range(12)
        ]
        picked.append(int(np.argmax(worth)))
    assert mmr(relevance, vectors, 6, lam, window).tolist() == picked


@pytest.mark.parametrize("seed", range(5))
def test_dpp_equals_greedy_by_determinants(seed):
    relevance, vectors = problem(seed)
    whole = kernel(relevance, vectors, 0.8)
    picked: list[int] = []
    for _ in range(5):
        dets = [
            -1.0 if i in picked else np.linalg.det(whole[np.ix_([*picked, i], [*picked, i])]) for i in range(len(whole))
        ]
        picked.append(int(np.argmax(dets)))
    assert dpp(relevance, vectors, 5, 0.8).tolist() == picked


def test_dpp_is_near_the_best_of_all_sets():
    """Against exact MAP over every set of 4 of 8: greedy finds most of its log-determinant, often the set itself."""
    same = 0
    for seed in range(30):
        relevance, vectors = problem(seed)
        whole = kernel(relevance, vectors, 0.8)
        worth = {
            chosen: np.linalg.slogdet(whole[np.ix_(chosen, chosen)])[1] for chosen in combinations(range(len(whole)), 4)
        }
        best = max(worth, key=lambda one: worth[one])
        found = tuple(sorted(dpp(relevance, vectors, 4, 0.8).tolist()))
        assert worth[found] > worth[best] - 1.0
        same += found == best
    assert same >= 10


def test_lists_at_once_equal_lists_one_by_one():
    relevance, vectors = problem(0, count=30, dim=5, lists=7)
    relevance[2, 10:] = -np.inf
    for many, single in (
        (mmr(relevance, vectors, 15, 0.6), [mmr(r, v, 15, 0.6) for r, v in zip(relevance, vectors, strict=True)]),
        (dpp(relevance, vectors, 15, 0.6), [dpp(r, v, 15, 0.6) for r, v in zip(relevance, vectors, strict=True)]),
    ):
        assert many.tolist() == [row.tolist() for row in single]
        assert sorted(many[2, :10].tolist()) == list(range(10))
        assert many[2, 10:].tolist() == [-1] * 5


def test_diversity_rises_along_the_dial():
    relevance, vectors = problem(1, count=60, dim=8, lists=100)
    dials = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)
    ways = {
        "mmr": [mmr(relevance, vectors, 10, 1 - dial) for dial in dials],
        "dpp": [dpp(relevance, vectors, 10, relevance_weight(dial)) for dial in dials],
    }
    for found in ways.values():
        mean = [
            np.mean([intra_list_diversity(v[own]) for v, own in zip(vectors, places, strict=True)]) for places in found
        ]
        worth = [np.mean(np.take_along_axis(relevance, places, 1)) for places in found]
        assert np.all(np.diff(mean) > 0), mean
        assert np.all(np.diff(worth) < 0), worth


def test_more_picks_than_dimensions_and_equal_items():
    vectors = np.repeat(np.eye(2), 6, axis=0)
    relevance = np.linspace(1, 0, 12)
    found = dpp(relevance, vectors, 12, 0.5).tolist()
    assert sorted(found) == list(range(12))
    assert found[:2] == [0, 6]
    assert mmr(relevance, vectors, 3, 0.5).tolist()[:2] == [0, 6]
    assert mmr(relevance, np.zeros((12, 2)), 3, 0.5).tolist() == [0, 1, 2]
    assert dpp(relevance, np.zeros((12, 2)), 3, 0.5).tolist() == [0, 1, 2]


def test_quota_holds_in_every_beginning():
    relevance, vectors = problem(5, count=20)
    flagged = np.zeros(20, bool)
    flagged[[15, 17, 18]] = True
    found = mmr(relevance, vectors, 12, 1.0, quota=Quota(flagged, 0.25))
    assert found.tolist() == [0, 1, 2, 15, 3, 4, 5, 17, 6, 7, 8, 18]
    short = mmr(relevance, vectors, 20, 1.0, quota=Quota(flagged, 0.5)).tolist()
    assert short[:7] == [0, 15, 1, 17, 2, 18, 3]
    assert sorted(short) == list(range(20))


def test_spread_is_the_mean_of_all_pairs():
    assert intra_list_diversity(np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])) == pytest.approx((1 + 2 + 1) / 3)
    assert intra_list_diversity(np.ones((1, 2))) == 0.0
