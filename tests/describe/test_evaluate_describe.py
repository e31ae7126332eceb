"""Test measures of descriptions: every figure counted by hand on a few items."""

from __future__ import annotations

from typing import Any

import pytest
from evaluated_items import evaluated_item

from coldstart.core.description import Description
from coldstart.core.stage import Reject
from coldstart.describe.evaluate.truth import compare_writers, measure_writer

TRUE = {"colour": "Red", "type": "Backpack"}


def values(found: Any) -> Any:
    """Values and n alone, without intervals."""
    if not isinstance(found, dict):
        return found
    if "low" in found:
        return round(found["value"], 4), found["n"]
    return {name: values(inner) for name, inner in found.items()}


FOUR = [
    evaluated_item("a", {"colour": "Red", "type": "Backpack"}, truth=TRUE, title="Red backpack", group=0),
    evaluated_item("b", {"colour": "crimson", "type": "Casual Shoes"}, truth=TRUE, kept={"colour": "Red"}, group=1),
    evaluated_item("c", {"colour": "Blue"}, truth={"type": "Backpack"}, kept={}, group=2),
    evaluated_item("d", raw="{", truth=TRUE, reject=Reject("no_json", "cut off", "filtered"), group=3),
]


def test_attributes_against_the_hidden_record() -> None:
    found = measure_writer(FOUR)
    assert values(found["written"]["attributes"]["all"]) == {
        "precision": (0.6, 5),  # of five written two colours and a type; Blue is of no stated attribute
        "recall": (0.4286, 7),
        "stated": (0.5714, 7),
        "f1": (0.5, 12),
        "accuracy": (0.75, 4),
    }
    assert values(found["written"]["attributes"]["colour"]) == {
        "precision": (0.6667, 3),
        "recall": (0.6667, 3),
        "stated": (0.6667, 3),
        "f1": (0.6667, 6),
        "accuracy": (1.0, 2),
    }
    assert values(found["checked"]["attributes"]["all"])["precision"] == (1.0, 3)
    assert values(found["checked"]["attributes"]["all"])["recall"] == (0.4286, 7)


def test_claims_that_are_made_up_and_claims_that_are_contradicted() -> None:
    found = measure_writer(FOUR)
    # a: two grounded and true; b: Red true, Casual Shoes false; c: Blue without a ground; d: none
    assert values(found["written"])["made_up"] == (0.4, 5)
    assert values(found["written"])["contradicted"] == (0.25, 4)
    assert values(found["checked"])["made_up"] == (0.0, 3)
    assert (found["written"]["claims"], found["checked"]["claims"]) == (5, 3)


def test_wrong_claims_true_claims_that_are_cut_and_sentences() -> None:
    found = measure_writer(FOUR)
    assert values(found["written"])["wrong"] == (0.2, 5)  # Casual Shoes
    assert values(found["true_cut"]) == (0.0, 3)
    lost = evaluated_item("a", {"colour": "Red", "type": "Backpack"}, truth=TRUE, kept={"type": "Backpack"})
    assert values(measure_writer([lost])["true_cut"]) == (0.5, 2)
    texts = ["A red backpack for men. It is small and light.", "Men Casual.", ""]
    three = [evaluated_item(str(n), {}, summary=text, group=n) for n, text in enumerate(texts)]
    of = values(measure_writer(three)["written"])
    assert (of["summary"], of["sentences"], of["reads"]) == ((0.6667, 3), (1.5, 2), (0.5, 2))


def test_what_became_of_the_texts() -> None:
    found = measure_writer(FOUR)
    assert found["items"] == 4
    assert values(found["valid"]) == (0.75, 4)
    assert values(found["status"]) == {
        "written": (0.25, 4), "cut": (0.25, 4), "fallback": (0.25, 4), "rejected": (0.25, 4),
    }  # fmt: skip
    assert values(found["cut"]) == {"not_grounded": (0.5, 4)}
    assert values(found["rejected"]) == {"no_json": (0.25, 4)}


def test_measures_of_the_text() -> None:
    shown = "A small red backpack for every day"
    one = evaluated_item("a", {"colour": "Red"}, title=shown, summary="Small red backpack for every purpose.")
    two = evaluated_item("b", {"colour": "Red"}, summary="Red.", group=1)
    found = measure_writer([one, two])["written"]
    assert values(found["length"]) == (3.5, 2)
    assert values(found["copied"]) == (round(5 / 7, 4), 7)
    assert values(found["distinct_1"]) == (round(6 / 7, 4), 7)
    assert values(found["distinct_2"]) == (1.0, 5)


def test_intervals_hold_the_value_and_draw_groups_whole() -> None:
    found = measure_writer(FOUR)["written"]["attributes"]["all"]["accuracy"]
    assert found["low"] < found["value"] <= found["high"]
    together = measure_writer([evaluated_item(name, {"colour": "Red"}, truth=TRUE) for name in "ab"])
    recall = together["written"]["attributes"]["all"]["recall"]
    assert (recall["low"], recall["value"], recall["high"]) == (0.5, 0.5, 0.5)


def test_of_nothing_written_there_are_no_shares() -> None:
    found = measure_writer(
        [evaluated_item("a", raw=None, truth=TRUE, reject=Reject("too_long", "9 of 8 tokens", "failed"))]
    )
    assert found["written"]["made_up"] is None
    assert found["written"]["attributes"]["all"]["precision"] is None
    assert values(found["written"]["attributes"]["all"]["recall"]) == (0.0, 2)
    assert found["written"]["distinct_1"] is None
    assert values(found["valid"]) == (0.0, 1)


def test_two_writers_are_compared_on_the_same_items() -> None:
    before = [evaluated_item(str(place), {"colour": "Blue"}, truth=TRUE, group=place) for place in range(8)]
    after = [evaluated_item(str(place), {"colour": "Red"}, truth=TRUE, group=place) for place in range(8)]
    found = compare_writers(before, after)
    assert values(found["written"]["attributes"]["colour"])["accuracy"] == (1.0, 8)
    assert values(found["written"]["attributes"]["all"])["recall"] == (0.5, 16)
    assert found["written"]["attributes"]["type"]["precision"] is None
    assert values(found["checked"])["contradicted"] == (-1.0, 8)
    with pytest.raises(ValueError, match="the two writers did not write of the same items in the same order"):
        compare_writers(before, after[::-1])


def test_a_stage_without_a_description_is_empty() -> None:
    assert FOUR[3].description("written") == Description()
    assert FOUR[3].description("checked") == Description()
