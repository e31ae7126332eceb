"""Test classifiers of visual attributes: ridge regression against scikit-learn, and thresholds on built vectors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from coldstart.describe.visual_classifiers import (
    RIDGE_PENALTY,
    Classifier,
    HeldOutScores,
    LabelledItems,
    probe_classifier,
    ridge,
    smoothed_shares,
    softmax,
    zero_shot_classifier,
)
from coldstart.embed.zero_shot import Numbers, Vectors

VALUES = 4


def pictures(count: int, spread: float, seed: int = 0) -> tuple[Vectors, Numbers, Vectors]:
    """Unit vectors [count, 16] around those of four values [4, 16], and which of them each is around."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(16, VALUES)))[0].T
    truth = rng.choice(VALUES, count, p=[0.55, 0.25, 0.15, 0.05])
    vectors = centres[truth] + spread * rng.normal(size=(count, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), truth, centres.astype(np.float32)


def labelled_items(truth: Numbers, seed: int = 1) -> LabelledItems:
    rng = np.random.default_rng(seed)
    count = len(truth)
    shares = smoothed_shares(np.bincount(truth[truth >= 0], minlength=VALUES))
    return LabelledItems(truth, rng.integers(5, size=count), rng.integers(2, size=count) == 1, shares)


def test_ridge_is_that_of_scikit_learn() -> None:
    vectors, truth, _ = pictures(60, 0.3)
    vectors[:, 3] = 0.25  # says nothing
    scores, weights, offsets = ridge(vectors, truth, np.arange(60) % 5, VALUES)
    targets = np.eye(VALUES)[truth]
    scaled = StandardScaler().fit(vectors.astype(np.float64))
    reference = Ridge(alpha=RIDGE_PENALTY * 60).fit(scaled.transform(vectors), targets)
    given = reference.predict(scaled.transform(vectors))
    assert np.allclose(vectors @ weights.T + offsets, given, atol=1e-5)
    rest = np.arange(60) % 5 != 2
    part = Ridge(alpha=RIDGE_PENALTY * rest.sum(), fit_intercept=False)
    part.fit(scaled.transform(vectors[rest]), targets[rest] - targets[rest].mean(axis=0))
    own = part.predict(scaled.transform(vectors[~rest])) + targets[rest].mean(axis=0)
    assert np.allclose(scores[~rest], own, atol=1e-5)


def test_shares_count_each_value_once_more() -> None:
    assert smoothed_shares(np.array([0, 1, 7])).tolist() == pytest.approx([1 / 11, 2 / 11, 8 / 11])


@pytest.mark.parametrize("kind", ["words", "probe"])
@pytest.mark.parametrize("precision", [0.85, 0.95])
def test_values_over_the_threshold_reach_the_precision(kind: str, precision: float) -> None:
    vectors, truth, words = pictures(1200, 0.5)
    known = labelled_items(truth)
    judge = (
        zero_shot_classifier("space", vectors, words, known, precision)
        if kind == "words"
        else probe_classifier("space", vectors, known, precision)
    )
    assert (judge.space, judge.kind) == ("space", kind)
    new, true, _ = pictures(6000, 0.5)
    likely = judge.probabilities(new)
    assert np.allclose(likely.sum(axis=1), 1, atol=1e-5)
    assert judge.threshold is not None
    over = likely >= judge.threshold
    right = np.arange(VALUES) == true[:, None]
    assert right[over].mean() == pytest.approx(precision, abs=0.03)
    assert judge.scores.items == 1200
    assert (over.sum(axis=1) <= 1).all()
    assert judge.scores.precision == pytest.approx(precision, abs=0.03)
    assert judge.scores.coverage == pytest.approx((over & right).sum() / len(true), abs=0.05)
    assert judge.scores.accuracy == pytest.approx((likely.argmax(axis=1) == true).mean(), abs=0.05)
    low, high = judge.scores.precision_interval or (1.0, 0.0)
    assert low < (judge.scores.precision or 0.0) < high


def test_a_value_under_a_half_is_no_ground_at_any_precision() -> None:
    vectors, truth, words = pictures(1200, 0.5)
    assert zero_shot_classifier("space", vectors, words, labelled_items(truth), 0.3).threshold == pytest.approx(
        0.5, abs=0.005
    )


def test_probabilities_are_as_often_right_as_they_say() -> None:
    vectors, truth, words = pictures(1200, 0.3)
    judge = zero_shot_classifier("space", vectors, words, labelled_items(truth), 0.9)
    new, true, _ = pictures(6000, 0.3)
    likely = judge.probabilities(new)
    right = np.arange(VALUES) == true[:, None]
    for low in (0.2, 0.4, 0.6, 0.8):
        chosen = (likely >= low) & (likely < low + 0.2)
        assert right[chosen].mean() == pytest.approx(likely[chosen].mean(), abs=0.08)


@pytest.mark.parametrize("kind", ["words", "probe"])
def test_pictures_that_tell_nothing_are_no_ground(kind: str) -> None:
    vectors, truth, words = pictures(400, 0.3)
    known = labelled_items(np.random.default_rng(5).permutation(truth))
    judge = (
        zero_shot_classifier("s", vectors, words, known, 0.9)
        if kind == "words"
        else probe_classifier("s", vectors, known, 0.9)
    )
    assert judge.threshold is None
    assert (judge.scores.precision, judge.scores.precision_interval, judge.scores.coverage) == (None, None, 0.0)


def test_items_of_no_listed_value_make_every_claim_about_them_wrong() -> None:
    vectors, truth, words = pictures(1200, 0.15)
    sure = zero_shot_classifier("s", vectors, words, labelled_items(truth), 0.9)
    truth = np.where(np.arange(1200) % 4 == 0, -1, truth)
    unsure = zero_shot_classifier("s", vectors, words, labelled_items(truth), 0.9)
    assert sure.scores.accuracy > 0.95 and unsure.scores.accuracy < 0.76
    assert sure.threshold is not None and unsure.threshold is None  # three of four are right, whatever is asked


def test_no_item_of_a_listed_value_is_no_ground() -> None:
    vectors, truth, words = pictures(40, 0.15)
    assert zero_shot_classifier("s", vectors, words, labelled_items(np.full_like(truth, -1)), 0.9).threshold is None


def test_softmax_of_large_numbers() -> None:
    found = softmax(np.array([[1000, 1000, -1000]], np.float32))
    assert found.tolist() == [[0.5, 0.5, 0.0]]
    nothing = HeldOutScores(0, 0.0, None, None, 0.0)
    judge = Classifier("s", "words", np.eye(2, dtype=np.float32), np.zeros(2, np.float32), None, nothing)
    assert judge.probabilities(np.zeros((0, 2), np.float32)).shape == (0, 2)
