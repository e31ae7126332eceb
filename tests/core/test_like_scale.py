"""Tests of the rule by which rows of a log count as likes."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.core.likes import FEWEST_RATED, find_likes, rating_scale


def _rows(**counts: int) -> np.ndarray:
    return np.concatenate([np.full(count, float(level[1:].replace("_", ".")), np.float32)
                           for level, count in counts.items()])  # fmt: skip


FILMS = _rows(w0_5=1, w1=3, w1_5=1, w2=8, w2_5=4, w3=22, w3_5=10, w4=28, w4_5=6, w5=15)
STARS = _rows(w1=10, w2=5, w3=10, w4=25, w5=70)
TENS = _rows(w0=50, w3=2, w5=9, w6=8, w7=15, w8=20, w9=11, w10=14)
HUNDREDS = np.array([10, 20, 30, 33, 50, 60, 65, 70, 72, 75, 80, 80, 85, 90, 90, 90, 95, 95, 100, 100], np.float32)


@pytest.mark.parametrize(
    ("weights", "scale", "least", "likes"),
    [
        pytest.param(FILMS, (0.5, 5), 3.5, 59, id="halves-to-5"),
        pytest.param(STARS, (1, 5), 3.5, 95, id="stars"),
        pytest.param(TENS, (3, 10), 7, 60, id="tens, 0 for no rating"),
        pytest.param(HUNDREDS, (10, 100), 70, 13, id="hundreds"),
    ],
)
def test_ratings_are_recognised_and_liked_from_seven_tenths_on(
    weights: np.ndarray, scale: tuple[float, float], least: float, likes: int
) -> None:
    found = find_likes(weights)
    assert (found.scale, found.min_weight, found.likes, found.rows) == (scale, least, likes, len(weights))


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(np.ones(500, np.float32), id="all-1"),
        pytest.param(_rows(w0=300, w1=100), id="binary"),
        pytest.param(np.array([1, -1] * 50, np.float32), id="thumbs"),
        pytest.param(np.concatenate([STARS, [-1]]).astype(np.float32), id="stars and a weight below 0"),
        pytest.param(_rows(w1=20, w3=20, w5=60), id="events"),
        pytest.param(_rows(w1=900, w2=300, w3=100, w4=50, w5=20), id="events, every level"),
        pytest.param(np.minimum(RANDOM.geometric(0.5, 2000), 5).astype(np.float32), id="counts to 5"),
        pytest.param(np.minimum(RANDOM.geometric(0.3, 2000), 10).astype(np.float32), id="counts to 10"),
        pytest.param(np.minimum(RANDOM.geometric(0.03, 2000), 100).astype(np.float32), id="counts to 100"),
        pytest.param(RANDOM.gamma(2, 20, 2000).astype(np.float32), id="seconds"),
        pytest.param(np.minimum(RANDOM.gamma(2, 60, 2000).round(), 100).astype(np.float32), id="percent watched"),
        pytest.param(STARS[:: len(STARS) // (FEWEST_RATED - 2)][: FEWEST_RATED - 1], id="too few"),
        pytest.param(np.empty(0, np.float32), id="none"),
        pytest.param(np.append(STARS, np.float32("nan")), id="not a number"),
    ],
)
def test_other_weights_are_no_ratings(weights: np.ndarray) -> None:
    assert rating_scale(weights) is None
    assert find_likes(weights).min_weight is None


def test_a_given_weight_decides_alone() -> None:
    found = find_likes(STARS, 1.0)
    assert (found.min_weight, found.scale, found.likes, found.is_given) == (1.0, None, len(STARS), True)
    assert str(found) == "120 of 120 count as likes (1 or more, as min_weight says)"


def test_likes_are_described_with_their_number_and_the_setting_that_changes_it() -> None:
    assert str(find_likes(FILMS)) == (
        "weights look like ratings from 0.5 to 5: 59 of 98 count as likes (3.5 or more); min_weight changes that"
    )
    assert str(find_likes(np.array([0, 1, 2], np.float32))) == "2 of 3 count as likes (a weight above 0)"
