"""Languages of titles: by script and known words, `und` where they do not show; shares of a catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldstart.core.language import count_languages, detect_title_language, languages_text, mostly_english

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
