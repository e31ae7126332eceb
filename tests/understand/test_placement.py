"""How a copy differs from its original, in words."""

from __future__ import annotations

from typing import Any

import pytest

from coldstart.understand.placement import describe_changes

WHOLE = {"angle": 0.0, "left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0, "seen": 1.0, "filled": 1.0,
         "plain": False, "score": 0.5}  # fmt: skip


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({}, "changed a little"),
        ({"angle": -2.9, "seen": 0.96, "filled": 0.96}, "turned by 3 degrees"),
        ({"left": -0.09, "top": -0.09, "right": 1.09, "bottom": 1.09, "seen": 0.72}, "cut to 72 % of the picture"),
        ({"top": 0.11, "filled": 0.89}, "with a bar above"),
        ({"top": 0.13, "bottom": 0.87, "filled": 0.74, "plain": True}, "with bars above and below"),
        ({"left": 0.13, "right": 0.87, "filled": 0.74, "plain": True}, "with bars left and right"),
        ({"left": 0.1, "right": 0.9, "top": 0.1, "bottom": 0.9, "filled": 0.6, "plain": True}, "with a border"),
        ({"left": 0.35, "right": 0.95, "top": 0.37, "bottom": 0.97, "filled": 0.36},
         "shown inside, in the lower right part, at 60 % size"),
        ({"left": 0.2, "right": 0.8, "top": 0.2, "bottom": 0.8, "filled": 0.36, "angle": 5.0},
         "turned by 5 degrees, shown inside, in the middle, at 60 % size"),
        ({"left": 0.2, "right": 1.2, "seen": 0.8, "filled": 0.8}, "80 % of it is shown"),
    ],
)  # fmt: skip
def test_a_placement_is_said_in_words(placement: dict[str, Any], words: str) -> None:
    assert describe_changes({"placement": {**WHOLE, **placement}, "found_by": "details"}) == words


def test_rows_of_earlier_versions_and_unfinished_ones_say_what_they_know() -> None:
    assert describe_changes({"mirrored": True, "found_by": "border"}) == "mirrored, with another border"
    assert describe_changes({"mirrored": False}) == ""
    assert describe_changes({"placement": {**WHOLE, "angle": None}}) == ""
