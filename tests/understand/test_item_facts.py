"""Which stated facts tell two items apart whose pictures are alike, and which do not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from coldstart.understand.item_facts import find_difference, read_facts, words_of


def why(one: dict[str, Any], other: dict[str, Any], *, plain: bool = False, common: bool = False) -> str | None:
    """What tells apart two items with one picture each."""
    facts = [
        replace(
            read_facts(
                {
                    **row,
                    "attributes": json.dumps(row.get("attributes", {})),
                    "media": [{"role": "image", "digest": "photo"}],
                }
            ),
            common=common,
        )
        for row in (one, other)
    ]
    found = find_difference(facts[0], facts[1], still=False, plain=plain)
    assert found == find_difference(facts[1], facts[0], still=False, plain=plain)
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Blue coffee mug", "Coffee mug, blue, 300 ml"),
        ("Waterproof hiking boots men", "Men's hiking boot, WATERPROOF"),
        ("Acme steel kettle 1.7l", "ACME steel kettle 1,7 l"),
        ("Zelt für zwei Personen", "Zelt fu\u0308r zwei Personen"),
        ("二人用テント 緑", "二人用テント"),
        ("Tent", ""),
    ],
)
def test_a_slight_retitling_is_the_same_item(one: str, other: str) -> None:
    assert why({"title": one, "price": 20.0}, {"title": other, "price": 20.1}) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Blue coffee mug", "Cordless hammer drill"),
        ("Blue coffee mug", "Red coffee mug"),
        ("Episode 1", "Episode 2"),
        ("USB cable", "USB hub"),
        ("Shoe size 41", "Shoe size 42"),
        ("二人用テント", "電動ドリル"),
    ],
)
def test_another_title_is_another_item(one: str, other: str) -> None:
    assert why({"title": one}, {"title": other}) == "title"


def test_category_price_and_traits_tell_apart_and_what_one_side_lacks_does_not() -> None:
    mug = {"title": "Mug", "category": "Kitchen", "price": 8.0, "attributes": {"Brand": "Acme", "stock": 3}}
    assert why(mug, {**mug, "category": "Garden"}) == "category"
    assert why(mug, {**mug, "price": 9.0}) == "price"
    assert why(mug, {**mug, "attributes": {"brand": "Other"}}) == "brand"
    assert why(mug, {**mug, "attributes": {"brand": "ACME", "stock": 9}}) is None
    assert (
        why({**mug, "attributes": {"currency": "EUR"}}, {**mug, "price": 9.0, "attributes": {"currency": "USD"}})
        is None
    )
    assert why(mug, {"title": "Mug"}) is None


def test_a_picture_that_proves_nothing_makes_copies_of_one_title_alone() -> None:
    for nothing in ({"plain": True}, {"common": True}):
        assert why({}, {}, **nothing) == "a picture that proves nothing"
        assert why({"title": "Blue mug"}, {"title": "Mug"}, **nothing) == "a picture that proves nothing"
        assert why({"title": "Blue mug"}, {"title": "blue MUGS"}, **nothing) is None


def test_words_are_compared_without_case_marks_and_plural() -> None:
    assert words_of("Mugs & 2x Glass-es, 300ml") == {"mug", "2", "x", "glas", "es", "300", "ml"}
    assert words_of(None) == words_of(" — ") == frozenset()
