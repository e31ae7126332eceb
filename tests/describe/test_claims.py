"""Test claims of a description and their verdicts, found by hand."""

from __future__ import annotations

import pytest
from evaluated_items import COLOUR, SCHEMA, TYPE

from coldstart.core.attributes import Attribute
from coldstart.core.description import Description
from coldstart.describe.checks import Sources
from coldstart.describe.evaluate.truth import (
    Claim,
    Verdict,
    evaluate_claim,
    extract_claims,
    find_ground,
    normalized_words,
    numbers,
)


def test_claims_are_attributes_named_values_and_numbers() -> None:
    description = Description(
        "A crimson backpack, 25 litres, at 1,299.00.", {"colour": "red"}, ("25 litres",), ("backpack under 1300",)
    )
    assert extract_claims(description, SCHEMA) == [
        Claim("colour", "Red"),
        Claim("type", "Backpack"),
        Claim("number", "25"),
        Claim("number", "1299"),
        Claim("number", "1300"),
    ]


def test_a_value_within_a_longer_one_is_no_claim_of_its_own() -> None:
    schema = {**SCHEMA, "use": Attribute(values=("Casual", "Sports"))}
    assert extract_claims(Description("Navy blue casual shoe."), schema) == [
        Claim("colour", "Navy Blue"),
        Claim("type", "Casual Shoes"),
    ]
    assert Claim("use", "Casual") in extract_claims(Description("Casual shoes, casual."), schema)


def test_what_the_schema_does_not_know_is_a_claim_as_it_stands() -> None:
    assert extract_claims(Description(attributes={"scent": "Rose", "colour": "green"}), SCHEMA) == [
        Claim("scent", "Rose"),
        Claim("colour", "green"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,299.50 and 7,5", ["1299.5", "7.5"]),
        ("2,000,000 of 10.0", ["2000000", "10"]),
        ("v2, 1080p, size 42.", ["1080", "42"]),
        ("on 1.2.2026", ["1.2.2026"]),
        ("no digits", []),
    ],
)
def test_numbers(text: str, found: list[str]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [("Watches", "watch"), ("Dresses", "dress"), ("men's", "men"), ("shoes", "Shoe"), ("box", "boxes")],
)
def test_plural_and_singular_are_one(one: str, other: str) -> None:
    assert normalized_words(one) == normalized_words(other)


def test_where_a_value_has_its_ground() -> None:
    texts = {"title": "Crimson bag", "transcript": "these navy blue casual shoes"}
    sources = Sources(texts, {"type": "backpack"}, {"colour": {"Blue": 0.6, "Navy Blue": 0.2}})
    assert find_ground("type", "Backpack", TYPE, sources, 0.5) == "record"
    assert find_ground("colour", "Red", COLOUR, sources, 0.5) == "title"  # by its alias
    assert find_ground("type", "Casual Shoes", TYPE, sources, 0.5) == "transcript"
    assert find_ground("colour", "Blue", COLOUR, Sources({}, {}, sources.seen), 0.5) == "predicted"
    assert find_ground("colour", "Blue", COLOUR, Sources({}, {}, sources.seen), 0.7) == ""
    assert find_ground("colour", "Red", COLOUR, Sources({}, {}, sources.seen), 0.0) == ""  # nobody has seen it
    assert find_ground("colour", "Red", COLOUR, Sources({"title": "Redmond, bored"}, {}, {}), 0.5) == ""


def test_made_up_is_what_has_no_ground_and_is_not_true() -> None:
    sources = Sources({"title": "Blue bag 25 l"}, {"price": 19.9}, {})

    def verdict(name: str, value: str, truth: str | None) -> Verdict:
        stated = {} if truth is None else {"colour": truth}
        return evaluate_claim(Claim(name, value), SCHEMA, stated, ["holds 30 litres"], sources, 0.5)

    red, blue = Claim("colour", "Red"), Claim("colour", "Blue")
    assert verdict("colour", "Red", None) == Verdict(red, "open", "")
    assert verdict("colour", "Red", None).is_made_up
    assert verdict("colour", "Red", "Blue") == Verdict(red, "false", "")
    assert not verdict("colour", "Red", "Red").is_made_up  # not shown, and true
    assert verdict("colour", "Blue", "Red") == Verdict(blue, "false", "title")
    assert not verdict("colour", "Blue", "Red").is_made_up  # grounded, and yet contradicted
    assert verdict("number", "25", None) == Verdict(Claim("number", "25"), "open", "title")
    assert verdict("number", "19.9", None).ground == "record"
    assert verdict("number", "30", None) == Verdict(Claim("number", "30"), "true", "")
    assert verdict("number", "7", None).is_made_up
