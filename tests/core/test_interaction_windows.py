"""Windows over interactions: what lies within, and who is warm there."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.core.interactions import Window, interactions, share_end, warm_items
from coldstart.errors import ColdstartError

ROWS = interactions(["a", "a", "b", "b", "c"], ["x", "x", "x", "y", "y"], [1, 2, 3, 4, 5])


def test_a_window_ends_before_its_end() -> None:
    window = Window(end=4, warm_min=2)
    assert window.inside(ROWS).times.tolist() == [1, 2, 3]
    assert window.after(ROWS).times.tolist() == [4, 5]
    assert window.counts(ROWS).tolist() == [2, 0]
    assert window.warm(ROWS).tolist() == [True, False]


def test_a_window_without_an_end_holds_everything() -> None:
    window = Window(warm_min=2)
    assert len(window.inside(ROWS)) == 5
    assert len(window.after(ROWS)) == 0
    assert window.warm(ROWS).tolist() == [True, True]


def test_a_user_counts_once() -> None:
    assert warm_items(ROWS, 3).tolist() == [False, False]


def test_the_end_leaves_a_share_before_it() -> None:
    rows = interactions([str(n) for n in range(100)], ["x"] * 100, np.arange(100))
    end = share_end(rows, 0.8)
    assert len(Window(end).inside(rows)) == 80
    rows = interactions(["a", "b", "c"], ["x"] * 3, [1, 5, 5])
    assert len(Window(share_end(rows, 0.5)).inside(rows)) == 1


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ColdstartError) as refused:
        Window(warm_min=0)
    assert str(refused.value) == "warm_min 0: an item that nobody met is cold; give 1 or more"
    with pytest.raises(ColdstartError) as refused:
        share_end(ROWS, 1.0)
    assert str(refused.value) == "share 1 of interactions: give a number between 0 and 1"
    with pytest.raises(ColdstartError) as refused:
        share_end(interactions([], []), 0.8)
    assert str(refused.value) == (
        "no interactions to split by time: ingest some with `coldstart ingest --interactions FILE`"
    )
    with pytest.raises(ColdstartError) as refused:
        share_end(interactions(["a", "b"], ["x", "y"]), 0.8)
    assert str(refused.value) == (
        "80% of the interactions have the first time of all: there is nothing before it to learn from; "
        "give times that differ, or split by items"
    )
