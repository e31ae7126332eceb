"""Channels of a match, their weights, and the calibration that default weights come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from match_catalog import INPUTS, LOOKS, TEXT, WORDS, Made, frames, unit, words

from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.search.channel_weights import ChannelWeights, default_weights, resolve_weights
from coldstart.search.channels import Channel, QuerySide, channels_of
from coldstart.search.match_calibration import MatchCalibration, calibrate_matching


def test_channels_are_pairs_of_one_passport_in_a_fixed_order() -> None:
    sides = [words([1, 0, 0]), frames(np.eye(4)), QuerySide("text lines", TEXT, "text", unit([[1, 0, 0]]), [])]
    spaces = {"image": LOOKS, "text": WORDS, "other": WORDS}
    found = channels_of(sides, spaces, {**INPUTS, "other": "text"})
    assert [channel.name for channel in found] == [
        "image→image", "text→other", "text→text", "text lines→other", "text lines→text",
    ]  # fmt: skip
    weights = default_weights(found, MatchCalibration())
    np.testing.assert_allclose(weights * 1.5, [1, 0.05, 0.05, 0.2, 0.2])  # frames 1, whole texts 0.1, lines 0.4
    assert [channel.name for channel in channels_of(sides, spaces, INPUTS)] == [
        "image→image", "text→text", "text lines→text",
    ]  # fmt: skip


LEFT, RIGHT = Channel("image", "image", "aa", "frames→picture"), Channel("text", "text", "bb", "words→words")


def test_spaces_of_pictures_weigh_by_how_seldom_they_miss() -> None:
    better, worse = (Channel(name, name, name, "frames→picture") for name in ("better", "worse"))
    calibration = MatchCalibration(misses={"better": 0.0, "worse": 0.38})
    assert default_weights([better, worse], calibration).tolist() == pytest.approx([20 / 21, 1 / 21])


def test_a_calibration_finds_the_space_that_tells_products_apart(tmp_path: Path) -> None:
    """In one space all pictures look alike; twelve videos of each space are laid over them."""
    rng = np.random.default_rng(8)
    good, poor = Passport("good", "g", "none", 32), Passport("poor", "p", "none", 32)
    sharp = unit(rng.normal(size=(42, 32)))
    flat = unit(1 + 0.05 * rng.normal(size=(42, 32)))
    flat[30:] = unit(rng.normal(size=(12, 32)))
    kinds = ["product"] * 30 + ["video"] * 12
    made = Made(tmp_path, {"sharp": list(sharp), "flat": list(flat)}, {"sharp": good, "flat": poor}, kind=kinds)
    found = calibrate_matching(made.catalog, {"sharp": "image", "flat": "image"}, lambda _: None)
    assert (found.queries, found.views, found.video_count) == (30, "videos", 12)
    assert found.misses["sharp"] < 0.1 < 0.4 < found.misses["flat"]
    np.testing.assert_allclose(found.products["sharp"], sharp[:30].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.videos["sharp"], sharp[30:].mean(0), atol=1e-6)
    read = MatchCalibration.from_bytes(found.to_bytes())
    assert read.misses == found.misses and read.video_count == 12 and read.is_of(made.catalog)
    assert not MatchCalibration({"sharp": np.zeros(3, np.float32)}).is_of(made.catalog)
    np.testing.assert_allclose(read.products["flat"], found.products["flat"], atol=1e-6)


def test_the_mean_of_views_leaves_out_the_video_that_asks() -> None:
    products, videos = np.zeros(2, np.float32), np.array([1, 0], np.float32)
    calibration = MatchCalibration({"image": products}, {"image": videos}, 5)
    assert calibration.mean_of_views("image", None).tolist() == pytest.approx([0.5, 0])  # five count as the products do
    own = np.array([1, 0], np.float32)
    assert calibration.mean_of_views("image", own).tolist() == pytest.approx([4 / 9, 0])


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"[]",
        b'{"products": {}, "videos": {}, "misses": {"a": 2}, "bounds": {}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {}, "videos": {}, "misses": {}, "bounds": {"a": [1, 0]}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {"a": [NaN]}, "videos": {"a": [1]}, "misses": {}, "bounds": {}, "video_count": 0, "queries": 0, '
        b'"views": ""}',
        b'{"products": {}, "videos": {}, "misses": {}, "bounds": {}, "video_count": 1e999, "queries": 0, "views": ""}',
    ],
)
def test_a_damaged_calibration_is_refused(data: bytes) -> None:
    with pytest.raises(ColdstartError, match=r"^the calibration of matching cannot be read: "):
        MatchCalibration.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"version": 2, "channels": [{"channel": "a", "passport": "b", "weight": -1}]}',
        b'{"version": 1e999, "channels": []}',
    ],
)
def test_damaged_weights_are_refused(data: bytes) -> None:
    with pytest.raises(ColdstartError, match=r"^the fitted weights of match cannot be read .*coldstart match --fit`$"):
        ChannelWeights.from_bytes(data)


LEFT, RIGHT = Channel("image", "image", "aa", "frames→picture"), Channel("text", "text", "bb", "words→words")


def test_fitted_weights_are_stored_with_their_passports() -> None:
    learnt = ChannelWeights.from_bytes(ChannelWeights.of([LEFT, RIGHT], np.array([0.7, 0.3])).to_bytes())
    weights, origin, notes = resolve_weights([RIGHT, LEFT], learnt, MatchCalibration())
    assert (weights.tolist(), origin, notes) == (pytest.approx([0.3, 0.7]), "fitted weights", [])
    moved = Channel("text", "text", "cc", "words→words")
    weights, _, notes = resolve_weights([LEFT, moved], learnt, MatchCalibration())
    assert weights.tolist() == pytest.approx([0.5, 0.5])  # the mean of those that are known is 0.7
    assert notes == ["text→text: not among the fitted weights, so the mean weight is taken"]


def test_weights_of_an_earlier_recipe_stay_in_use_and_are_named() -> None:
    rows = [{"channel": "image→image", "passport": "aa", "weight": 1.0}]
    earlier = ChannelWeights.from_bytes(json.dumps({"version": 1, "channels": rows}).encode())
    weights, origin, notes = resolve_weights([LEFT], earlier, MatchCalibration())
    assert (weights.tolist(), origin) == ([1.0], "fitted weights")
    assert notes == ["the weights were fitted by an earlier recipe; `coldstart match --fit` fits by the new one"]


@pytest.mark.parametrize(
    ("weights", "why"), [([0.0, 1.0], "weigh nothing"), (None, "are of other spaces or other encoders")]
)
def test_fitted_weights_that_say_nothing_are_left_aside(weights: list[float] | None, why: str) -> None:
    other = Channel("x", "x", "dd", "words→words")
    learnt = (
        ChannelWeights.of([LEFT, RIGHT], np.array(weights)) if weights else ChannelWeights.of([other], np.array([1.0]))
    )
    assert resolve_weights([LEFT], learnt, MatchCalibration()) == (
        np.array([1.0]),
        "default weights: pictures alike",
        [f"the fitted weights {why}: fit them again with `coldstart match --fit`"],
    )
