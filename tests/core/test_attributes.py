"""Attributes of descriptions: what values stand for, and the truth of a record."""

from __future__ import annotations

import pytest

from coldstart.core import pipeline
from coldstart.core.attributes import Attribute, Attributes, recorded_values

SHOP = Attributes.model_validate(
    {
        "default": {"type": {"from": "category"}, "colour": {"visual": True}},
        "Shoes": {"size": {"from": "attributes.eu_size"}, "topic": {"from": "tags", "values": ["running", "formal"]}},
    }
)


def test_a_value_stands_for_a_listed_one_by_its_words_or_an_alias() -> None:
    colour = Attribute(values=("Navy Blue", "Grey"), aliases={"Grey": ("gray", "anthracite")})
    assert [colour.canonical(text) for text in ("navy  blue", "GRAY", "Anthracite", "grey", "teal", " ")] == [
        *("Navy Blue", "Grey", "Grey", "Grey"),
        None,
        None,
    ]
    assert colour.words_of("Grey") == ("Grey", "gray", "anthracite")


def test_without_a_list_any_text_stands_for_itself() -> None:
    assert Attribute().canonical(" Olive \n green ") == "Olive green"


def test_a_category_has_attributes_of_its_own_or_those_of_all() -> None:
    assert list(SHOP.of("shoes")) == ["size", "topic"]
    assert list(SHOP.of("Hats")) == list(SHOP.of(None)) == ["type", "colour"]
    assert Attributes().of("Hats") == {}


def test_the_truth_is_read_from_the_place_that_each_attribute_names() -> None:
    row = {"category": "Hats", "tags": ["new"], "attributes": '{"colour": "Red", "size": 3}'}
    assert recorded_values(row, SHOP.of("Hats")) == {"type": "Hats", "colour": "Red"}
    shoe = {"category": "Shoes", "tags": ["sale", "Running"], "attributes": {"eu_size": 42}}
    assert recorded_values(shoe, SHOP.of("Shoes")) == {"size": "42", "topic": "running"}


def test_a_truth_value_that_is_no_plain_value_or_not_listed_is_left_out() -> None:
    listed = {"colour": Attribute(values=("Red",)), "new": Attribute()}
    assert recorded_values({"attributes": {"colour": "Teal", "new": True}}, listed) == {}


def test_values_that_a_fit_saw_fill_lists_that_are_not_stated() -> None:
    filled = SHOP.with_values({"default": {"colour": ["Red", "Blue"]}, "Shoes": {"topic": ["ignored"]}})
    assert filled.of(None)["colour"].values == ("Red", "Blue")
    assert filled.of("Shoes")["topic"].values == ("running", "formal")
    assert Attributes.model_validate(filled.plain()) == filled


def test_a_pipeline_reports_faults_of_its_attributes_by_their_place() -> None:
    raw = {
        "attributes": {"default": {"colour": {"visible": True}, "size": {"from": "prize"}}, "Shoes": 3},
        "stages": {"ingest": {}},
    }
    with pytest.raises(pipeline.PipelineError) as caught:
        pipeline.load(raw)
    assert caught.value.faults == [
        "unknown setting attributes.default.colour.visible (did you mean 'visual'?)",
        "attributes.default.size.from='prize': give one of category, creator, tags, or attributes.KEY",
        "attributes.Shoes=3: give pairs, such as `default: {colour: {visual: true}}`",
    ]
