"""Cosines made probabilities: against references in plain loops, and on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coldstart.embed.zero_shot import (
    ENOUGH,
    TEMPERATURE,
    THRESHOLD,
    Calibration,
    LabelledScores,
    LabelTargets,
    calibrate,
    calibration_error,
    ensemble,
    fit,
    lowest_threshold,
    patterns,
    predict,
    uncalibrated,
)
from coldstart.metrics.intervals import wilson


def softmax(row: np.ndarray) -> np.ndarray:
    weights = np.exp(row.astype(np.float64) - row.max())
    return weights / weights.sum()


def drawn(count: int, temperature: float, spaces: int = 1, classes: int = 5, seed: int = 0) -> LabelledScores:
    """Items whose classes were drawn with the very probabilities that cosines over a temperature give.

    Of several spaces each holds a share of the evidence: their logits add up to those that the class was drawn by.
    """
    random = np.random.default_rng(seed)
    cosines = tuple(random.normal(0, 0.1, (count, classes)).astype(np.float32) for _ in range(spaces))
    total = sum(one / temperature for one in cosines)
    truth = np.array([random.choice(classes, p=softmax(row)) for row in np.asarray(total)])
    return LabelledScores(cosines, np.ones((spaces, count), bool), truth, np.arange(count) % 2 == 0, classes)


def test_prompts_of_a_class_are_averaged_to_a_unit_vector() -> None:
    vectors = np.array([[1, 0], [0, 1], [0, 1], [-1, 0], [1, 0]], np.float32)
    found = ensemble(vectors, np.array([0, 0, 1, 2, 2]), 3)
    np.testing.assert_allclose(found, [[math.sqrt(0.5)] * 2, [0, 1], [0, 0]], atol=1e-7)
    assert found.dtype == np.float32


def test_prediction_is_a_softmax_and_its_two_largest_shares() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (50, 7)).astype(np.float32)
    found = predict(logits.copy())
    for place, row in enumerate(logits):
        shares = softmax(row)
        order = np.argsort(-shares)
        assert (found.best[place], found.second[place]) == (order[0], order[1])
        assert found.score[place] == pytest.approx(shares[order[0]], rel=1e-5)
        assert found.margin[place] == pytest.approx(shares[order[0]] - shares[order[1]], rel=1e-4, abs=1e-6)


def test_huge_logits_stay_finite() -> None:
    found = predict(np.array([[1e30, -1e30, 0], [5, 5, 5]], np.float32))
    assert found.score.tolist() == pytest.approx([1, 1 / 3])
    assert found.margin.tolist() == pytest.approx([1, 0], abs=1e-6)


def test_a_label_is_a_class_at_or_over_the_threshold() -> None:
    found = predict(np.log(np.array([[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32)))
    assert found.accepted(2, 0.5).tolist() == [True, True, False]  # the last is most like a text for none of them
    assert found.accepted(2, 0.6).tolist() == [True, False, False]
    assert found.accepted(2, None).tolist() == [False, False, False]


def test_spaces_that_an_item_lacks_say_nothing() -> None:
    present = np.array([[True, True, False], [True, False, True]])
    assert {spaces: chosen.tolist() for spaces, chosen in patterns(present)} == {
        (0,): [False, True, False],
        (1,): [False, False, True],
        (0, 1): [True, False, False],
    }
    first = np.array([[0.2, 0.4], [0.2, 0.4], [0, 0]], np.float32)
    second = np.array([[0.6, 0.0], [0, 0], [0.6, 0.0]], np.float32)
    alone = Calibration({(0,): (0.1,), (1,): (0.2,)}, 0.5)
    np.testing.assert_allclose(alone.logits([first, second], present), [[2.5, 2], [2, 4], [3, 0]], rtol=1e-6)
    fitted = Calibration({**alone.temperatures, (0, 1): (0.05, 0.3)}, 0.5)
    np.testing.assert_allclose(fitted.logits([first, second], present), [[6, 8], [2, 4], [3, 0]], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2])
def test_the_temperature_that_drew_the_classes_is_found(temperature: float) -> None:
    found = fit(drawn(4000, temperature), LabelTargets(0.9))
    assert found.temperatures[(0,)][0] == pytest.approx(temperature, rel=0.15)


def test_items_that_are_all_right_do_not_make_every_score_a_one() -> None:
    cosines = np.full((40, 3), 0.1, np.float32)
    truth = np.arange(40) % 3
    cosines[np.arange(40), truth] = np.linspace(0.2, 0.4, 40)
    found = fit(LabelledScores((cosines,), np.ones((1, 40), bool), truth, truth == 0, 3), LabelTargets(0.9))
    judged = predict(found.logits([cosines], np.ones((1, 40), bool)))
    assert judged.score.min() < 0.95 < judged.score.max() < 0.99999
    assert found.threshold is not None and judged.accepted(3, found.threshold).all()


def test_spaces_together_have_temperatures_of_their_own() -> None:
    """Two spaces that each hold half of the evidence, and a third that holds none."""
    labelled = drawn(4000, 0.05, spaces=2)
    noise = np.random.default_rng(9).normal(0, 0.1, labelled.cosines[0].shape).astype(np.float32)
    labelled = LabelledScores((*labelled.cosines, noise), np.ones((3, 4000), bool), labelled.truth, labelled.halves, 5)
    found = fit(labelled, LabelTargets(0.9)).temperatures[(0, 1, 2)]
    assert found[:2] == pytest.approx((0.05, 0.05), rel=0.15)
    assert found[2] > 0.5  # ten times flatter than the others


def test_too_few_items_of_a_space_leave_it_as_it_was() -> None:
    labelled = drawn(200, 0.02, spaces=2)
    present = labelled.present.copy()
    present[1, ENOUGH - 1 :] = False
    cosines = (labelled.cosines[0], labelled.cosines[1] * present[1][:, None])
    found = fit(
        LabelledScores(cosines, present, labelled.truth, labelled.halves, 5), LabelTargets(0.9, temperature=0.07)
    )
    assert set(found.temperatures) == {(0,), (1,)}
    assert found.temperatures[(1,)] == (0.07,)
    assert found.temperatures[(0,)] != (0.07,)


def test_the_lowest_threshold_that_is_precise_enough() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.7, 0.6, 0.5], np.float32)
    right = np.array([1, 1, 1, 0, 1, 0], bool)
    # with one more taken for wrong: 1/2, 2/3, (two at 0.7) 3/5, 4/6, 4/7
    assert lowest_threshold(scores, right, 0.6) == pytest.approx(0.6, abs=1e-4)
    assert lowest_threshold(scores, right, 2 / 3) == pytest.approx(0.6, abs=1e-4)
    assert lowest_threshold(scores, right, 0.67) is None
    assert lowest_threshold(scores[::-1], right[::-1], 0.6) == lowest_threshold(scores, right, 0.6)
    assert lowest_threshold(scores[:0], right[:0], 0.5) is None
    for score in np.random.default_rng(0).random(200, np.float32):
        found = lowest_threshold(np.array([score]), np.array([True]), 0.5)
        assert found is not None and np.float32(found) <= score < found + 2e-4


def test_a_threshold_that_is_given_is_used() -> None:
    assert fit(drawn(100, 0.05), LabelTargets(0.9, threshold=0.42)).threshold == 0.42
    assert uncalibrated(2, LabelTargets(0.9, threshold=0.42)).threshold == 0.42
    assert uncalibrated(2, LabelTargets(0.9)) == Calibration({(0,): (TEMPERATURE,), (1,): (TEMPERATURE,)}, THRESHOLD)


@pytest.mark.slow
def test_precision_on_items_never_seen_reaches_the_target() -> None:
    labelled, fresh = drawn(3000, 0.05, seed=3), drawn(20_000, 0.05, seed=4)
    for wanted in (0.7, 0.9):
        calibration, quality = calibrate(labelled, LabelTargets(wanted))
        assert quality is not None and quality.precision == pytest.approx(wanted, abs=0.05)
        assert quality.precision_interval is not None
        assert quality.precision_interval[0] < quality.precision < quality.precision_interval[1]
        judged = predict(calibration.logits(fresh.cosines, fresh.present))
        believed = judged.accepted(5, calibration.threshold)
        assert (judged.best == fresh.truth)[believed].mean() == pytest.approx(wanted, abs=0.03)
        assert believed.mean() == pytest.approx(quality.coverage, abs=0.05)


def test_quality_is_measured_on_the_half_that_was_not_fitted() -> None:
    """One half is always right, of the other every class is drawn at random: what fits the first fails there."""
    count, classes = 400, 4
    rng = np.random.default_rng(0)
    halves = np.arange(count) % 2 == 0
    truth = rng.integers(classes, size=count)
    cosines = rng.normal(0, 0.01, (count, classes)).astype(np.float32)
    cosines[np.arange(count), np.where(halves, rng.integers(classes, size=count), truth)] += 0.3
    _, quality = calibrate(
        LabelledScores((cosines,), np.ones((1, count), bool), truth, halves, classes), LabelTargets(0.9)
    )
    assert quality is not None and quality.precision is not None
    assert quality.precision < 0.4  # a fourth by chance


def test_a_fitted_temperature_mends_the_calibration_error() -> None:
    _, quality = calibrate(drawn(2000, 0.3), LabelTargets(0.5))
    assert quality is not None
    assert quality.ece_after < 0.05 < 0.2 < quality.ece_before
    assert quality.accuracy_interval[0] < quality.accuracy < quality.accuracy_interval[1]


def test_vectors_that_say_nothing_label_nothing() -> None:
    """Classes that have nothing to do with the vectors: no threshold reaches the precision, and none is made up."""
    labelled = drawn(500, 0.05)
    shuffled = LabelledScores(
        labelled.cosines, labelled.present, np.random.default_rng(5).permutation(labelled.truth), labelled.halves, 5
    )
    calibration, quality = calibrate(shuffled, LabelTargets(0.9))
    assert calibration.threshold is None
    assert quality is not None and quality.precision is None and quality.coverage == 0
    assert str(quality).startswith(f"accuracy {quality.accuracy:.2f} [")
    assert ", no score was precise enough for a label; calibration error " in str(quality)


def test_with_few_labelled_items_nothing_is_fitted() -> None:
    few = drawn(ENOUGH - 1, 0.02)
    assert calibrate(few, LabelTargets(0.9)) == (uncalibrated(1, LabelTargets(0.9)), None)
    assert calibrate(drawn(ENOUGH, 0.02), LabelTargets(0.9))[1] is not None


def test_items_that_are_more_like_none_of_the_classes_never_set_the_threshold() -> None:
    """The last column is a text for what is none of the classes; whatever it wins is no label."""
    labelled = drawn(1000, 0.05)
    open_set = LabelledScores(labelled.cosines, labelled.present, labelled.truth % 4, labelled.halves, 4)
    calibration, _ = calibrate(open_set, LabelTargets(0.6))
    judged = predict(calibration.logits(open_set.cosines, open_set.present))
    believed = judged.accepted(4, calibration.threshold)
    assert not (judged.best[believed] == 4).any() and (judged.best == 4).any()


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.95, 0.95, 0.35, 1.0], np.float32)
    right = np.array([True, False, False, True])
    # 0.95, 0.95 and 1.0 share the bin from 14/15: |2.9 - 2|; 0.35 is alone: 0.35
    assert calibration_error(scores, right) == pytest.approx((0.9 + 0.35) / 4, abs=1e-6)
    assert calibration_error(scores[:0], right[:0]) == 0


def test_wilson_intervals() -> None:
    """As `scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")` gives them."""
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.72247, 1.0), abs=1e-4)


def test_a_calibration_survives_being_written() -> None:
    given = Calibration({(0,): (0.03,), (1,): (0.1,), (0, 1): (0.04, 0.2)}, None)
    plain = given.to_plain(["image", "text"])
    assert plain["fitted"][1] == {"spaces": ["image", "text"], "temperatures": [0.04, 0.2]}
    assert Calibration.from_plain(plain, ["image", "text"]) == given
