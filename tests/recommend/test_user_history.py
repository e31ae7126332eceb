"""Histories from JSON and from the table; whole messages."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.errors import ColdstartError
from coldstart.recommend.users import HISTORY_FORMAT, history_from_json


def test_rows_by_json():
    found = history_from_json(
        '[{"item_id": "a", "timestamp": "2020-01-01T00:00:10", "event": "click", "weight": 2}, "b",'
        ' {"item_id": 7, "timestamp": 1577836800}, {"item_id": "c", "timestamp": "2020-01-01T01:00:05+01:00"}]'
    )
    assert found.item_ids == ("a", "b", "7", "c")
    assert found.times.tolist() == [1577836810, 1577836810, 1577836800, 1577836805]
    assert found.weights.tolist() == [2, 1, 1, 1]
    assert found.events == ("click", "", "", "")
    rows = found.rows("me")
    assert rows.user_ids == ("me",)
    assert rows.item_ids == ("7", "a", "b", "c")
    assert rows.times[rows.items == 0].tolist() == [1577836800]
    assert len(history_from_json([]).rows("me")) == 0


def test_values_are_read_as_those_of_interactions():
    found = history_from_json(
        [
            {"item_id": 101.0, "timestamp": "2020-01-01 00:00:10 UTC", "weight": float("nan")},
            {"item_id": "b", "timestamp": 20200101},
            {"item_id": "c", "timestamp": 1577836800000},
            {"item_id": "d", "timestamp": "NULL"},
        ]
    )
    assert found.item_ids == ("101", "b", "c", "d")
    assert found.times.tolist() == [1577836810, 1577836800, 1577836800, 1577836810]
    assert found.weights.tolist() == [1, 1, 1, 1]


def test_each_liked_item_once_latest_first():
    rows = [
        {"item_id": item, "timestamp": time, "weight": weight}
        for item, time, weight in [("a", 1, 1), ("b", 2, 0), ("c", 3, 5), ("a", 4, 3), ("d", 2, -1)]
    ]
    history = history_from_json(rows)
    found = history.liked(None)
    assert (found.item_ids, found.times.tolist(), found.weights.tolist()) == (("a", "c"), [4, 3], [3, 5])
    assert history.liked(4).item_ids == ("c",)
    assert history.liked(None).first(1).item_ids == ("a",)
    assert history.liked(9).times.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", f"the history is empty: give {HISTORY_FORMAT}, or [] for a visitor without likes"),
        ("[1", f"the history is not JSON (Expecting ',' delimiter: line 1 column 3 (char 2)): give {HISTORY_FORMAT}"),
        ("{}", f"the history is not a list: give {HISTORY_FORMAT}"),
        ('["a", {"id": 1}]', f"entry 2 of the history has no item_id: give {HISTORY_FORMAT}"),
        ('["NULL"]', f"entry 1 of the history has no item_id: give {HISTORY_FORMAT}"),
        ('[["a"]]', f"entry 1 of the history has no item_id: give {HISTORY_FORMAT}"),
        (
            "[1e17]",
            "entry 1 of the history: item_id 1e+17: a number that has lost its last digits: write ids as text or as "
            "whole numbers",
        ),
        ('[{"item_id": "a", "weight": "x"}]', "entry 1 of the history: weight 'x' is not a finite number"),
        (
            '[{"item_id": "a", "timestamp": "soon"}]',
            "entry 1 of the history: timestamp 'soon' is neither ISO 8601 nor seconds since 1970",
        ),
    ],
)
def test_what_is_no_history(text, message):
    with pytest.raises(ColdstartError) as error:
        history_from_json(text)
    assert str(error.value) == message


def test_what_is_named_with_no_weight_is_liked():
    history = history_from_json(["a", {"item_id": "b", "weight": 2}], weight=4.0)
    assert history.liked(4.0).item_ids == ("a",)
