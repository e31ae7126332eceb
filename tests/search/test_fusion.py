"""Standardising, sharing votes, taking in turn and fitting, on small arrays whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.search import fusion
from coldstart.search.fusion import (
    ChannelVotes,
    KnownVideo,
    evaluate_weights,
    fit_held_out,
    is_held_out,
    keep_best,
    search_weights,
    share_votes,
    standardise,
    support_of_words,
    take_in_turn,
)

NAN = np.nan
ONE = np.array([1.0])


def floats(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_each_frame_is_standardised_over_the_candidates_that_can_be_compared() -> None:
    found = standardise(floats([0.1, 0.2, 0.3, NAN], [0.5, 0.5, 0.5, 0.5], [NAN, NAN, NAN, 0.4]))
    step = 1.224745  # (0.3 - 0.2) / population deviation of (0.1, 0.2, 0.3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [-step, 0, step, NAN], atol=1e-5)
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0])
    np.testing.assert_array_equal(found[2], [NAN, NAN, NAN, 0])
    assert standardise(np.empty((2, 0), np.float32)).shape == (2, 0)


def test_a_frame_shares_its_vote_among_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = share_votes(floats([2, 1, 0, NAN], [0, 0, 0, 0], [NAN, NAN, NAN, NAN]))
    parts = np.exp([4.0, 2.0, 0.0])
    np.testing.assert_allclose(votes[0], [*(parts / parts.sum()), 0], atol=1e-6)
    np.testing.assert_allclose(votes[1], [0.25] * 4, atol=1e-6)
    np.testing.assert_array_equal(votes[2], [0, 0, 0, 0])
    monkeypatch.setattr(fusion, "VOTED", 2)
    assert share_votes(floats([2, 1, 0, -1]))[0, 2:].tolist() == [0, 0]
    assert share_votes(np.empty((2, 0), np.float32)).shape == (2, 0)


def test_words_support_what_they_name_and_nothing_below_chance() -> None:
    found = support_of_words(floats([0.2, 0.3, 0.7, 0.9, NAN]), 0.3, 0.7)
    np.testing.assert_allclose(found, [0, 0, 1, 1, 0], atol=1e-6)
    named = support_of_words(floats([0.7, 0.5, 0.4], [0.1, 0.1, 0.5]), 0.3, 0.7)
    np.testing.assert_allclose(named, [1, 0.5**3, 0.5], atol=1e-6)  # a like name by contrast, and the best line counts
    assert support_of_words(np.empty((3, 0), np.float32), 0.3, 0.7).shape == (0,)


def test_a_clip_of_three_products_lists_three() -> None:
    """Two frames show the first product, and its like is second in both; one frame each shows the two others."""
    frames = floats([0.55, 0.45, 0, 0], [0.55, 0.45, 0, 0], [0, 0.05, 0.95, 0], [0, 0.05, 0, 0.95])
    places, gains = take_in_turn([ChannelVotes(frames, True)], ONE, 4)
    assert places == [0, 2, 3, 1]  # by the sum of its votes the like would be second
    assert gains == pytest.approx([0.275, 0.2375, 0.2375, 0], abs=1e-3)


def test_words_name_any_number_of_products() -> None:
    places, gains = take_in_turn([ChannelVotes(floats([0.9, 0.0, 0.8]), False)], ONE, 5)
    assert places == [0, 2]  # of the other nothing speaks
    assert gains == pytest.approx([0.9, 0.8])


def test_a_channel_that_says_nothing_takes_no_weight_from_the_rest() -> None:
    frames, silent = ChannelVotes(floats([1, 0], [1, 0]), True), ChannelVotes(floats([0, 0]), False)
    for votes in ([frames, silent], [frames, None]):
        assert take_in_turn(votes, np.array([0.5, 0.5]), 1)[1] == pytest.approx([1], abs=1e-3)
    assert take_in_turn([silent, None], np.array([0.5, 0.5]), 3) == ([], [])
    assert take_in_turn([ChannelVotes(np.empty((2, 0), np.float32), True)], ONE, 3) == ([], [])


def test_many_weights_are_taken_at_once_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    votes = [
        ChannelVotes(share_votes(rng.normal(size=(5, 30)).astype(np.float32)), True),
        ChannelVotes(rng.random((1, 30)).astype(np.float32), False),
    ]
    weights = rng.random((4, 2))
    places, gains = fusion._take(votes, weights, 8)
    for row in range(4):
        alone = take_in_turn(votes, weights[row], 8)
        assert places[row].tolist() == alone[0] and gains[row].tolist() == pytest.approx(alone[1])
    monkeypatch.setattr(fusion, "_IN_TURN", 3)  # the rest in one go: all of them, each once
    some = take_in_turn(votes, weights[0], 30)[0]
    assert some[:3] == places[0, :3].tolist() and sorted(some) == list(range(30))


def test_the_best_of_each_channel_are_kept() -> None:
    frames, words = ChannelVotes(floats([0, 9, 0, 1], [0, 0, 0, 2]), True), ChannelVotes(floats([5, 0, 0, 0]), False)
    assert keep_best([frames, None, words], 1).tolist() == [0, 1]


def known(rows: np.ndarray, right: list[int], shown: int | None = None, group: str = "v") -> KnownVideo:
    votes = [ChannelVotes(row[None].astype(np.float32), False) for row in rows]
    return KnownVideo(group, votes, np.asarray(right, np.intp), shown or len(right))


def test_found_and_ranks_are_counted_per_video() -> None:
    rows = floats([9, 8, 7, 6, 5, 4, 3, 2]) / 10
    first = known(rows, [0, 5], shown=3)  # ranks 1 and 6, and a third that is no candidate
    second = known(rows, [2, 3])
    third = known(rows, [], shown=1)
    found = evaluate_weights([first, second, third], ONE)
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


def test_a_tie_counts_against_the_right_one_and_one_that_nothing_speaks_of_is_not_found() -> None:
    assert evaluate_weights([known(floats([1, 1, 1, 0]), [0])], ONE).reciprocal.tolist() == pytest.approx([1 / 3])
    missing = evaluate_weights([known(floats([0, 1, 0]), [0])], ONE)
    assert (missing.found_5.tolist(), missing.reciprocal.tolist()) == ([0], [0])
    silent = evaluate_weights([known(floats([0, 0, 0]), [0])], ONE)
    assert (silent.found_5.tolist(), silent.reciprocal.tolist()) == ([0], [0])


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
        found.append(known(1 / (1 + np.exp(-rows)), right.tolist(), group=f"video {video}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("channels", [2, 4, 6])
def test_a_fit_finds_the_channel_that_knows(channels: int) -> None:
    """Six channels go by one weight after the other, fewer by all combinations."""
    equal = np.full(channels, 1 / channels)
    weights = search_weights(noisy(channels, 1, 40), equal)
    assert weights.sum() == pytest.approx(1)
    assert weights.argmax() == 1 and weights[1] >= 0.5
    fresh = noisy(channels, 1, 100, seed=1)
    assert evaluate_weights(fresh, weights).recall_5.mean() > evaluate_weights(fresh, equal).recall_5.mean() + 0.1


def test_a_fit_keeps_the_default_where_nothing_is_better() -> None:
    default = np.array([0.55, 0.45])
    assert search_weights([known(floats([5, 1, 0], [5, 1, 0]), [0])], default).tolist() == default.tolist()


def test_a_fit_prefers_recall_among_five_to_the_first_place() -> None:
    spread = np.linspace(1, 0, 12)
    early = np.concatenate([[2.0, 0.0], spread])  # one product first, the other last
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
