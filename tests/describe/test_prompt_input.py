"""Test the prompt input of an item, and its target description."""

from __future__ import annotations

from coldstart.core.attributes import Attributes
from coldstart.core.description import Description
from coldstart.describe.prompt_input import first_sentences, prompt_values, target_description, text_fields

SHOP = Attributes.model_validate(
    {"default": {"type": {"from": "category"}, "colour": {"visual": True}}, "Shoes": {"sole": {}}}
)
ROW = {
    "item_id": "a",
    "kind": "product",
    "title": "Runner 3000",
    "description": "A light shoe for long runs. Made for rain. Sold out soon.",
    "category": "Hats",
    "tags": ["new", "Sport"],
    "creator": "Acme",
    "price": 9.5,
    "attributes": '{"colour": "Red"}',
    "media": [],
    "evidence": {"transcript": "hello  there", "screen_text": None},
}


def test_without_a_view_all_is_shown() -> None:
    values, stated = prompt_values(ROW, SHOP)
    assert values["title"] == "Runner 3000" and values["price"] == 9.5 and values["transcript"] == "hello  there"
    assert values["facts"] == {"colour": "Red"}
    assert values["wanted"] == {"type": [], "colour": []} and list(stated) == ["type", "colour"]


def test_a_view_hides_fields_and_what_follows_from_them() -> None:
    shoe = {**ROW, "category": "Shoes"}
    values, stated = prompt_values(shoe, SHOP, {"title"})
    assert {name for name, value in values.items() if value} == {"title", "wanted"}
    assert list(stated) == ["type", "colour"]  # the category is hidden, so its own attributes are not known
    assert list(prompt_values(shoe, SHOP, {"category"})[1]) == ["sole"]


def test_a_fact_that_is_a_field_of_its_own_is_hidden_with_that_field() -> None:
    assert prompt_values(ROW, SHOP, {"facts"})[0]["facts"] == {"colour": "Red"}


def test_texts_are_those_that_are_shown_and_not_blank() -> None:
    assert text_fields(prompt_values(ROW, SHOP, {"tags", "transcript", "screen_text"})[0]) == {
        "tags": "new, Sport",
        "transcript": "hello  there",
    }


def test_the_target_is_what_the_record_states() -> None:
    stated = SHOP.of("Hats")
    found = target_description(ROW, stated, {"title"})
    assert found == Description(
        "A light shoe for long runs. Made for rain.",
        {"type": "Hats", "colour": "Red"},
        ("hats", "red", "new", "sport"),
        ("hats red",),
    )
    assert target_description(ROW, stated, {"title", "description"}).summary == "Hats Red."
    assert target_description(ROW, stated, {"title"}, prose=False).summary == "Hats Red."
    assert not target_description({**ROW, "category": None, "tags": [], "attributes": None}, stated, {"description"})


def test_sentences_are_cut_between_words() -> None:
    assert first_sentences("One. Two! Three?") == "One. Two!"
    assert first_sentences("word " * 30, limit=23) == "word word word word …"
