"""Test the texts of items in an index, and the pairs of contenders that are compared."""

from __future__ import annotations

from evaluated_items import SCHEMA, evaluated_item

from coldstart.core.description import Description
from coldstart.describe.checks import Sources
from coldstart.describe.evaluate.retrieval_gain import contender_pairs, given_text, index_texts, template_description

TRUE = {"colour": "Red", "type": "Backpack"}


def test_every_writer_stands_alone_and_with_what_is_given() -> None:
    one = evaluated_item("a", {"colour": "Red", "type": "Backpack"}, title="Carrier 5", kept={"type": "Backpack"})
    found = index_texts({"base": [one]}, [Description("A fine red backpack.", TRUE)], 0.5)
    assert found == {
        "given": ["Carrier 5"],
        "template": [""],
        "base": ["Backpack.\nBackpack."],
        "base unchecked": ["Red Backpack.\nRed, Backpack."],
        "truth": ["A fine red backpack.\nRed, Backpack."],
        "given + template": ["Carrier 5"],
        "given + base": ["Carrier 5\nBackpack.\nBackpack."],
        "given + base unchecked": ["Carrier 5\nRed Backpack.\nRed, Backpack."],
        "given + truth": ["Carrier 5\nA fine red backpack.\nRed, Backpack."],
    }


def test_where_no_words_are_given_there_is_nothing_to_stand_with() -> None:
    found = index_texts({"base": [evaluated_item("a", {"colour": "Red"})]}, [Description()], 0.5)
    assert list(found) == ["template", "base", "base unchecked", "truth"]
    assert contender_pairs(list(found), ["base"]) == [
        ("template", "base"),
        ("base unchecked", "base"),
        ("base", "truth"),
    ]


def test_pairs_go_from_what_is_given_to_more() -> None:
    names = [evaluated_item("a", {"colour": "Red"}, title="Carrier")]
    found = contender_pairs(
        list(index_texts({"base": names, "adapter": names}, [Description()], 0.5)), ["base", "adapter"]
    )
    assert found == [
        ("given", "given + template"),
        ("given", "given + base"),
        ("given", "given + adapter"),
        ("given", "given + truth"),
        ("given + base", "given + adapter"),
        ("given + template", "given + base"),
        ("given + template", "given + adapter"),
        ("base", "adapter"),
        ("template", "base"),
        ("template", "adapter"),
        ("given + base unchecked", "given + base"),
        ("given + adapter unchecked", "given + adapter"),
        ("given + base", "given + truth"),
        ("given + adapter", "given + truth"),
    ]


def test_a_template_has_values_of_record_text_or_picture() -> None:
    seen = {"colour": {"Blue": 0.3, "Red": 0.6}, "type": {"Backpack": 0.4}}

    def template_of(sources: Sources) -> dict[str, str]:
        return dict(template_description(SCHEMA, sources, 0.5).attributes)

    assert template_of(Sources({}, {}, seen)) == {"colour": "Red"}
    assert template_of(Sources({"title": "navy blue casual shoe"}, {}, seen)) == {
        "colour": "Navy Blue",
        "type": "Casual Shoes",
    }
    assert template_of(Sources({"title": "navy blue"}, {"colour": "crimson"}, seen)) == {"colour": "Red"}
    assert template_description(SCHEMA, Sources({"title": "crimson"}, {}, {}), 0.5) == Description(
        "Red.", {"colour": "Red"}
    )
    assert not template_description(SCHEMA, Sources({}, {}, {}), 0.5)


def test_what_is_given_is_read_short_fields_first_and_each_once() -> None:
    sources = Sources(
        {"description": "Long words.", "title": "Carrier", "creator": "Acme"},
        {"creator": "Acme", "price": 5.0, "colour": "Red"},
        {},
    )
    assert given_text(sources) == "Carrier. Acme. Red\nLong words."
    assert given_text(sources, "Written.") == "Carrier. Acme. Red\nWritten.\nLong words."
    assert given_text(Sources({}, {"price": 5.0}, {})) == ""
