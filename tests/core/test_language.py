"""Languages of titles: by script and known words, `und` where they do not show; shares of a catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldstart.core.language import (
    count_languages,
    detect_title_language,
    item_language,
    languages_text,
    mostly_english,
    parse_language,
)

QUERIES = Path(__file__).resolve().parents[2] / "benchmarks" / "data" / "languages.jsonl"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Puma Men Black Running Shoes", "en"),
        ("Damen Kleid rot", "de"),
        ("Weiße Tasse", "de"),
        ("Robe noire pour femme", "fr"),
        ("Zapatos rojos de niña", "es"),
        ("Scarpe da uomo nere", "it"),
        ("红甜椒", "zh"),
        ("लाल शिमला मिर्च", "hi"),
        ("Чёрные кроссовки", "ru"),
        ("Avocado", "und"),
        ("Nike Air Max 90", "und"),
        ("Le Coq", "und"),  # a brand: one short word
        ("Baby Doll", "und"),
        ("90 x 60", "und"),
        ("", "und"),
    ],
)
def test_the_language_of_a_title(text: str, code: str) -> None:
    assert detect_title_language(text) == code


def test_short_texts_of_six_languages_are_rarely_taken_for_another() -> None:
    rows = [json.loads(line) for line in QUERIES.read_text("utf-8").splitlines()]
    for code in ("en", "de", "fr", "es", "zh", "hi"):
        counts = count_languages((row[code], None) for row in rows)
        assert counts[code] >= 30, (code, counts)
        assert counts.total() - counts[code] - counts["und"] <= 1, (code, counts)


def test_shares_of_a_catalogue() -> None:
    counts = count_languages(
        [("Damen Schuhe", None)] * 2 + [(None, "the box is for the garden")] * 6 + [("X1", "")] * 3
    )
    assert counts == {"de": 2, "en": 6, "und": 3}
    assert languages_text(counts) == "English 75 %, German 25 %"
    assert languages_text({}) == ""
    assert mostly_english(counts) is None  # eight show one
    assert mostly_english({"en": 95, "fr": 5}) is True
    assert mostly_english({"und": 900, "en": 60, "zh": 40}) is False
    assert count_languages([(None, None)]) == {}


def test_shares_that_few_wrong_verdicts_make_are_left_out() -> None:
    assert languages_text({"en": 3945, "pl": 2, "und": 236}) == "English 100 %"
    assert languages_text({"en": 99, "pl": 1}) == "English 99 %, Polish 1 %"


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({}, "de"),
        ({"language": "en"}, "en"),
        ({"Language": "English"}, "en"),
        ({"LANG": "fr-CA"}, "fr"),
        ({"locale": "pt_BR"}, "pt"),
        ({"content-language": "spa", "language": "en"}, "es"),  # of the texts before that of a book, say
        ({"language": "Klingon"}, "de"),
        ({"language": ["en"]}, "de"),
        ({"language": None}, "de"),
    ],
)
def test_a_stated_language_wins_over_the_detected_one(attributes: dict[str, object], code: str) -> None:
    assert item_language("Rote Schuhe für Damen", None, attributes) == code


def test_an_item_without_a_language_that_shows_has_none() -> None:
    assert item_language("Avocado", None, {}) is None
    assert item_language("Avocado", "Eine reife Frucht mit Kern", {}) == "de"
    assert item_language(None, None, {}) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [("Deutsch", "de"), ("ger", "de"), ("zh-Hant-TW", "zh"), ("svenska", "sv"), ("hindi", "hi"), ("cs_CZ", "cs"),
     ("qq", None), ("", None), (7, None), ("de luxe", None)],
)  # fmt: skip
def test_spellings_of_a_language(text: object, code: str | None) -> None:
    assert parse_language(text) == code
