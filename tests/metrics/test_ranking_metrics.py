"""Metrics against scikit-learn, SciPy and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import svdvals
from scipy.spatial.distance import pdist
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, top_k_accuracy_score

from coldstart.metrics import ranking
from coldstart.metrics.ranking import Interval

EYE = np.eye(4, dtype=np.float32)


def unit(rows: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 37, 1 << 24])
def test_ranks_are_those_of_scikit_learn(block: int) -> None:
    """Its coverage error is the rank of the worst right label; with one right label each, the rank."""
    queries, gallery = unit(60, 8), unit(90, 8, seed=1)
    own = np.random.default_rng(2).integers(90, size=60)
    ranks = ranking.ranks(queries, gallery, [np.array([place]) for place in own], block=block)
    right = own[:, None] == np.arange(90)
    scores = queries @ gallery.T
    assert ranks.dtype == np.int64
    assert ranks.tolist() == [coverage_error(right[[row]], scores[[row]]) for row in range(60)]
    for k in (1, 5, 10):
        assert ranking.recall_at_k(ranks, k) == pytest.approx(
            top_k_accuracy_score(own, scores, k=k, labels=np.arange(90))
        )
    assert ranking.mrr(ranks) == pytest.approx(label_ranking_average_precision_score(right, scores))
    assert ranking.median_rank(ranks) == np.median(ranks)


def test_the_best_of_several_right_ones_counts_and_the_others_do_no_harm() -> None:
    query = np.array([[1.0, 0, 0, 0]], np.float32)
    gallery = np.array([[0.8, 0.6, 0, 0], [0.9, np.sqrt(0.19), 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0]], np.float32)
    assert ranking.ranks(query, gallery, [np.array([0, 1])]).tolist() == [1]
    assert ranking.ranks(query, gallery, [np.array([1, 3])]).tolist() == [1]
    assert ranking.ranks(query, gallery, [np.array([0, 3])]).tolist() == [2]
    assert ranking.ranks(query, gallery, [np.array([2, 3])]).tolist() == [3]
    assert ranking.ranks(query, gallery, np.array([[False, False, True, True]])).tolist() == [3]


def test_ties_count_against() -> None:
    """Also those that only rounding parts: a space in which all is alike ranks last."""
    alike = np.repeat(unit(1, 300), 50, axis=0)
    assert ranking.ranks(alike[:7], alike, [np.array([place]) for place in range(7)]).tolist() == [50] * 7
    assert ranking.ranks(alike[:1], alike, [np.arange(20)]).tolist() == [31]
    gallery = np.array([[1.0, 0], [1, 0], [0, 1]], np.float32)
    assert ranking.ranks(gallery[:1], gallery, [np.array([0])]).tolist() == [2]


def test_half_precision_is_taken() -> None:
    queries = unit(20, 16)
    found = ranking.ranks(queries.astype(np.float16), queries.astype(np.float16), [np.array([p]) for p in range(20)])
    assert found.tolist() == [1] * 20


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^query 2 has no right answer in the gallery$"):
        ranking.ranks(EYE, EYE, [np.array([0]), np.array([1]), np.array([], np.intp), np.array([3])])
    with pytest.raises(ValueError, match=r"^query 1 has no right answer in the gallery$"):
        ranking.ranks(EYE[:2], EYE, np.array([[True] * 4, [False] * 4]))
    with pytest.raises(ValueError, match=r"^right answers are given for 3 queries, and there are 4$"):
        ranking.ranks(EYE, EYE, [np.array([0])] * 3)


def test_right_places_are_those_of_the_group() -> None:
    found = ranking.right_places(["a", "c", "z"], ["a", "b", "a", "c"])
    assert [places.tolist() for places in found] == [[0, 2], [3], []]


@pytest.mark.parametrize(("gallery", "k"), [(10, 1), (10, 5), (100, 10), (5, 10)])
def test_chance_is_the_hypergeometric_one(gallery: int, k: int) -> None:
    counts = [1, 2, 4]
    reference = np.mean([1 - stats.hypergeom(gallery, count, min(k, gallery)).pmf(0) for count in counts])
    assert ranking.chance_recall_at_k(counts, gallery, k) == pytest.approx(reference)


def test_chance_is_what_random_vectors_reach() -> None:
    queries, gallery = unit(4000, 32), unit(50, 32, seed=1)
    right = [np.array([place % 50, (place + 7) % 50]) for place in range(4000)]
    found = ranking.recall_at_k(ranking.ranks(queries, gallery, right), 5)
    assert found == pytest.approx(ranking.chance_recall_at_k([2] * 4000, 50, 5), abs=0.02)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_the_bootstrap_is_that_of_scipy(statistic: ranking.Statistic) -> None:
    values = np.random.default_rng(5).gamma(2.0, size=200)
    found = ranking.bootstrap(values, statistic, resamples=6000)
    reference = stats.bootstrap((values,), statistic, method="percentile", n_resamples=6000, rng=1).confidence_interval
    assert found.value == pytest.approx(statistic(values))
    assert (found.low, found.high) == pytest.approx(reference, abs=0.02)


def test_an_interval_of_recall_is_as_wide_as_the_binomial_one() -> None:
    found = ranking.bootstrap(np.arange(400) < 100)
    assert found.value == 0.25
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.004)


def test_five_rows_of_one_item_are_one_piece_of_evidence() -> None:
    values = np.arange(100) % 5 / 4
    groups = np.repeat(np.arange(100), 5).tolist()
    once, often = ranking.bootstrap(values), ranking.bootstrap(np.repeat(values, 5), groups=groups)
    assert often == pytest.approx(once)
    alone = ranking.bootstrap(np.repeat(values, 5))
    assert alone.high - alone.low < 0.6 * (once.high - once.low)
    by_groups = ranking.bootstrap(np.repeat(values, 5), lambda drawn: float(drawn.sum() / len(drawn)), groups=groups)
    assert (by_groups.low, by_groups.high) == pytest.approx((once.low, once.high))


def test_groups_of_different_sizes_weigh_by_their_rows() -> None:
    found = ranking.bootstrap(np.array([1.0, 1, 1, 0]), groups=["a", "a", "a", "b"])
    assert found == Interval(0.75, 0.0, 1.0)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal(300)
    after = before + 0.1 + 0.01 * rng.standard_normal(300)
    found = ranking.paired(before, after)
    assert found.value == pytest.approx(np.mean(after - before))
    assert found.high - found.low < 0.01
    assert ranking.paired(before, before) == Interval(0.0, 0.0, 0.0)
    alone = ranking.bootstrap(after - before)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    shifted = ranking.paired(before, before + 3, np.median)
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((3, 3, 3))


def test_a_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert ranking.bootstrap(values, seed=3) == ranking.bootstrap(values, seed=3)
    assert ranking.bootstrap(values, seed=3) != ranking.bootstrap(values, seed=4)


def test_values_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^there are no values to resample$"):
        ranking.bootstrap(np.array([]), np.median)
    with pytest.raises(ValueError, match=r"^2 groups are given for 3 values$"):
        ranking.bootstrap(np.arange(3), groups=["a", "b"])
    with pytest.raises(ValueError, match=r"^3 values before and 4 after are not of the same queries$"):
        ranking.paired(np.arange(3), np.arange(4))


def test_the_gap_is_the_distance_of_the_centroids() -> None:
    images = np.array([[1.0, 0], [0, 1]])
    assert ranking.modality_gap(images, -images) == pytest.approx(np.sqrt(2))
    assert ranking.modality_gap(images, images[::-1]) == 0
    assert ranking.modality_gap(images[:1].repeat(3, 0), -images[:1]) == pytest.approx(2)


def test_effective_rank_is_the_entropy_of_the_singular_values() -> None:
    assert ranking.effective_rank(EYE) == pytest.approx(4)
    assert ranking.effective_rank(np.repeat(EYE[:1], 9, axis=0)) == pytest.approx(1, abs=1e-5)
    assert ranking.effective_rank(np.repeat(EYE[:3], 5, axis=0)) == pytest.approx(3, abs=1e-5)
    for rows, width in ((200, 16), (16, 200)):
        vectors = unit(rows, width) * np.linspace(1, 0.1, width)
        values = svdvals(vectors)
        assert ranking.effective_rank(vectors) == pytest.approx(np.exp(stats.entropy(values / values.sum())))


def test_alignment_and_uniformity_are_as_in_their_definition() -> None:
    images, texts = unit(40, 8), unit(40, 8, seed=1)
    assert ranking.alignment(images, texts) == pytest.approx(np.mean(2 - 2 * (images * texts).sum(1)), rel=1e-5)
    assert ranking.alignment(images, images) == 0
    assert ranking.alignment(EYE[:1], -EYE[:1], alpha=1) == 2
    expected = np.log(np.mean(np.exp(-2 * pdist(images.astype(np.float64)) ** 2)))
    assert ranking.uniformity(images) == pytest.approx(expected, rel=1e-5)
    assert ranking.uniformity(images, block=100) == pytest.approx(expected, rel=1e-5)
    assert ranking.uniformity(np.repeat(EYE[:1], 3, axis=0)) == 0
