"""Standardising, fusing and fitting, on small arrays whose answers can be worked out by hand or by scipy's formula."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.search.fusion import (
    KnownVideo,
    combine,
    evaluate_weights,
    fit_held_out,
    is_held_out,
    search_weights,
    standardise,
)

NAN = np.nan


def floats(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_each_channel_is_standardised_over_the_candidates_that_have_it() -> None:
    found = standardise(floats([0.1, 0.2, 0.3, NAN], [0.5, 0.5, 0.5, 0.5], [NAN, NAN, NAN, 0.4]))
    step = 1.224745  # (0.3 - 0.2) / population deviation of (0.1, 0.2, 0.3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [-step, 0, step, NAN], atol=1e-5)
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0])
    np.testing.assert_array_equal(found[2], [NAN, NAN, NAN, 0])


def test_a_channel_that_nobody_has_stays_missing() -> None:
    found = standardise(floats([NAN, NAN], [0.2, 0.4]))
    np.testing.assert_allclose(found, [[NAN, NAN], [-1, 1]], atol=1e-5)
    np.testing.assert_allclose(combine(found, np.array([0.9, 0.1])), [-1, 1], atol=1e-5)
    assert standardise(np.empty((2, 0), np.float32)).shape == (2, 0)


def test_scores_do_not_depend_on_the_scale_of_a_channel() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.normal(size=(3, 50)).astype(np.float32)
    scaled = cosines * floats([0.01], [1], [7]) + floats([0.4], [-0.3], [0])
    np.testing.assert_allclose(standardise(scaled), standardise(cosines), atol=2e-3)


def test_a_missing_channel_is_masked_and_weights_are_shared_by_the_rest() -> None:
    values = floats([2.0, 2.0, NAN, NAN], [1.0, NAN, 1.0, NAN])
    found = combine(values, np.array([0.75, 0.25]))
    np.testing.assert_allclose(found, [1.75, 2.0, 1.0, NAN])
    zeroed = np.nan_to_num(values).T @ [0.75, 0.25]
    assert zeroed[1] < zeroed[0] < found[1]  # as a zero, the missing words would put it last but one


def test_a_candidate_with_nothing_but_channels_without_weight_has_no_score() -> None:
    np.testing.assert_array_equal(combine(floats([NAN, 3.0], [9.0, 9.0]), np.array([1.0, 0.0])), [NAN, 3.0])


def test_many_weights_are_combined_at_once() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 20)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = NAN
    weights = rng.random((5, 3))
    each = np.array([combine(values, row) for row in weights])
    np.testing.assert_allclose(combine(values, weights), each, atol=1e-6)


def known(rows: np.ndarray, right: list[int], shown: int | None = None, group: str = "v") -> KnownVideo:
    return KnownVideo(group, rows.astype(np.float32), np.asarray(right, np.intp), shown or len(right))


def test_found_and_ranks_are_counted_per_video() -> None:
    rows = floats([9, 8, 7, 6, 5, 4, 3, 2])
    first = known(rows, [0, 5], shown=3)  # ranks 1 and 6, and a third that is no candidate
    second = known(rows, [2, 3])
    third = known(rows, [], shown=1)
    found = evaluate_weights([first, second, third], np.array([1.0]))
    assert found.found_1.tolist() == [1, 0, 0]
    assert found.found_5.tolist() == [1, 2, 0]
    assert found.recall_5.tolist() == pytest.approx([1 / 3, 1, 0])
    assert found.reciprocal.tolist() == pytest.approx([1, 1 / 3, 0])
    summary = found.summary()
    assert {key: summary[key] for key in ("videos", "shown", "found_1", "found_5")} == {
        "videos": 3, "shown": 6, "found_1": 1, "found_5": 3,
    }  # fmt: skip
    assert summary["recall_5"]["value"] == pytest.approx(4 / 9)
    assert summary["recall_5"]["low"] <= 4 / 9 <= summary["recall_5"]["high"]


def test_a_tie_counts_against_the_right_one_and_a_missing_score_is_last() -> None:
    assert evaluate_weights([known(floats([1, 1, 1, 0]), [0])], np.array([1.0])).reciprocal.tolist() == pytest.approx(
        [1 / 3]
    )
    missing = evaluate_weights([known(floats([NAN, 1, 0]), [0])], np.array([1.0]))
    assert (missing.found_5.tolist(), missing.reciprocal.tolist()) == ([0], [0])


def test_each_video_may_have_weights_of_its_own() -> None:
    rows = floats([3, 2, 1], [1, 2, 3])
    found = evaluate_weights([known(rows, [0]), known(rows, [0])], np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert found.reciprocal.tolist() == pytest.approx([1, 1 / 3])


def noisy(channels: int, informative: int, videos: int, seed: int = 0) -> list[KnownVideo]:
    """Videos of which one channel knows the right products and the others guess."""
    rng = np.random.default_rng(seed)
    found = []
    for video in range(videos):
        rows = rng.normal(size=(channels, 40))
        right = rng.choice(40, size=2, replace=False)
        rows[informative, right] += 2.5
        found.append(known(standardise(rows.astype(np.float32)), right.tolist(), group=f"video {video}"))
    return found


@pytest.mark.parametrize("channels", [2, 3, 4, 6])
def test_a_fit_finds_the_channel_that_knows(channels: int) -> None:
    """Six channels go by one weight after the other, fewer by all combinations."""
    equal = np.full(channels, 1 / channels)
    weights = search_weights(noisy(channels, 1, 40), equal)
    assert weights.sum() == pytest.approx(1)
    assert weights.argmax() == 1 and weights[1] >= 0.5
    fresh = noisy(channels, 1, 200, seed=1)
    assert evaluate_weights(fresh, weights).recall_5.mean() > evaluate_weights(fresh, equal).recall_5.mean() + 0.1


def test_a_fit_keeps_the_default_where_nothing_is_better() -> None:
    default = np.array([0.55, 0.45])
    assert search_weights([known(floats([5, 1, 0], [5, 1, 0]), [0])], default).tolist() == default.tolist()


def test_a_fit_prefers_recall_among_five_to_the_first_place() -> None:
    spread = np.linspace(1, 0, 12)
    early = np.concatenate([[9.0, -9.0], spread])  # one product first, the other last
    both = np.concatenate([[0.9, 0.8], spread])  # both among the first five, none first
    assert evaluate_weights([known(early[None], [0, 1])], np.array([1.0])).reciprocal[0] == 1
    weights = search_weights([known(np.stack([early, both]), [0, 1])], np.array([1.0, 0.0]))
    assert evaluate_weights([known(np.stack([early, both]), [0, 1])], weights).found_5[0] == 2


def test_videos_are_held_out_by_their_group_alone() -> None:
    held = [is_held_out(f"video {number}") for number in range(2000)]
    assert 0.36 < np.mean(held) < 0.44
    assert held == [is_held_out(f"video {number}") for number in range(2000)]
    found = fit_held_out(noisy(2, 0, 60), np.array([0.5, 0.5]))
    expected = sum(is_held_out(f"video {number}") for number in range(60))
    assert (found.held_out, found.trained_on) == (expected, 60 - expected)
    assert found.before["videos"] == found.after["videos"] == expected
    assert found.gain.value == pytest.approx(found.after["recall_5"]["value"] - found.before["recall_5"]["value"])
    assert found.gain.low <= found.gain.value <= found.gain.high
    assert found.helps and found.gain.value > 0


def test_a_fit_reports_where_it_does_not_help() -> None:
    """Held-out videos obey the other channel: the fit on the rest makes them worse."""
    train = [one for one in noisy(2, 0, 60) if not is_held_out(one.group)]
    test = [one for one in noisy(2, 1, 60) if is_held_out(one.group)]
    found = fit_held_out([*train, *test], np.array([0.5, 0.5]))
    assert found.gain.value < 0 and not found.helps


def test_a_split_needs_videos_on_both_sides() -> None:
    one = noisy(2, 0, 1)[0]
    sides = (0, 1) if is_held_out(one.group) else (1, 0)
    with pytest.raises(ValueError) as error:
        fit_held_out([one], np.array([0.5, 0.5]))
    assert str(error.value) == f"{sides[0]} videos to fit on and {sides[1]} held out: neither may be none"
