"""Descriptions as JSON: written, bound, read."""

from __future__ import annotations

import json
import re

import pytest

from coldstart.core.attributes import Attribute
from coldstart.core.description import Description, json_schema, parse, sentence

WHOLE = Description("A red shoe.", {"type": "Shoe", "colour": "Red"}, ("shoe", "red"), ("red shoe",))
SHORT = ("attributes", "summary")


def test_what_is_written_is_read_back() -> None:
    assert parse(WHOLE.dumps()) == WHOLE
    assert WHOLE.dumps(SHORT) == '{"attributes": {"type": "Shoe", "colour": "Red"}, "summary": "A red shoe."}'
    assert parse(WHOLE.dumps(SHORT), SHORT) == Description("A red shoe.", {"type": "Shoe", "colour": "Red"})


def test_the_schema_lists_values_and_keeps_the_order_of_the_output() -> None:
    schema = json_schema({"type": Attribute(), "colour": Attribute(values=("Red", "Blue"))}, SHORT)
    assert list(schema["properties"]) == schema["required"] == list(SHORT)
    assert schema["properties"]["attributes"] == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "minLength": 1, "maxLength": 60},
            "colour": {"type": "string", "enum": ["Red", "Blue"]},
        },
        "additionalProperties": False,
    }
    json.dumps(schema)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"attributes": {}, "summary": "a', "no JSON: Unterminated string starting at: line 1 column 31 (char 30)"),
        ("[]", "no JSON object but list"),
        ('{"summary": "a"}', "lacks attributes"),
        ('{"attributes": {}, "summary": "a", "price": 1}', "has price, which the prompt did not request"),
        ('{"attributes": {}, "summary": 1}', "summary is int, not text"),
        ('{"attributes": {"colour": 1}, "summary": "a"}', "attributes is no object of texts"),
    ],
)
def test_what_was_not_asked_for_is_no_description(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse(text, SHORT)


def test_lists_are_lists_of_texts() -> None:
    with pytest.raises(ValueError, match=r"^queries is no list of texts$"):
        parse('{"keywords": ["a"], "queries": [1]}', ("keywords", "queries"))


def test_a_template_says_the_values_in_their_order() -> None:
    assert sentence({"audience": "Men", "colour": "Brown", "type": "Shoes"}) == "Men Brown Shoes."
    assert sentence({}) == ""
    assert not Description() and Description(keywords=("a",))
