"""Quotations: captions by their place on the screen, whole sentences of speech, and what a view hides."""

from __future__ import annotations

from typing import Any

import pytest

from coldstart.core.attributes import Attributes
from coldstart.describe.prompt_input import prompt_values, spoken_evidence
from coldstart.describe.quotes import captions, quotable, quotable_speech

END_S = 10.0


def line(text: str, box: tuple[float, ...], start_s: float = 0.0, end_s: float = END_S, **more: Any) -> dict[str, Any]:
    return {"text": text, "confidence": 1.0, "start_s": start_s, "end_s": end_s, "box": list(box), **more}


CAPTION = line("Pull a leaf!", (0.3, 0.85, 0.7, 0.92))


@pytest.mark.parametrize(
    "left_out",
    [
        line("Stock Pictures", (0.2, 0.58, 0.8, 0.75)),  # across the middle, all along
        line("Made with Cutter", (0.7, 0.84, 0.98, 0.98)),  # in a corner, all along
        line("Watch later", (0.8, 0.02, 0.97, 0.06), 0.0, 2.0),  # a button
        line("For research only, by the owners of the set", (0.0, 0.4, 1.0, 0.5), 0.0, 2.0),  # cut by both sides
        line("packs away from children.", (0.46, 0.95, 0.66, 1.0)),  # cut by the lower side
        line("Pull a leaf", (0.3, 0.85, 0.7, 0.92), 5.0),  # another reading
        line("more at leaf.example.com today", (0.3, 0.5, 0.7, 0.6)),
        line("follow @leaf for more", (0.3, 0.5, 0.7, 0.6)),
        line("Hardly read at all", (0.3, 0.5, 0.7, 0.6), confidence=0.9),
    ],
)
def test_marks_notices_buttons_and_addresses_are_no_captions(left_out: dict[str, Any]) -> None:
    assert captions([CAPTION, left_out], END_S) == ["Pull a leaf!"]


@pytest.mark.parametrize(
    "kept",
    [
        line("Sauce day", (0.3, 0.45, 0.7, 0.55), 0.0, 4.0),  # in the middle for a while
        line("three ways to eat a mango", (0.2, 0.45, 0.8, 0.55)),  # words, all along
        line("Red Grapefruit", (0.07, 0.06, 0.84, 0.18)),  # at the top, wide
        line("Orange", (0.06, 0.05, 0.27, 0.18), 0.0, 5.0),  # large, in a corner for a while
    ],
)
def test_captions_stay(kept: dict[str, Any]) -> None:
    assert captions([kept], END_S) == [kept["text"]]


def test_readings_of_one_mark_are_counted_together() -> None:
    box = (0.2, 0.58, 0.8, 0.75)
    halves = [line("Stockk Picturs", box, 0.0, 4.0), line("Stock Pictures", box, 4.0, END_S)]
    assert captions(halves, END_S) == []
    assert captions(halves[1:], END_S) == ["Stock Pictures"]


def test_a_full_line_goes_on_below_and_is_quoted_whole_or_not_at_all() -> None:
    title = [line("How to keep a mango fresh", (0.2, 0.2, 0.8, 0.28)), line("All Week Long", (0.35, 0.28, 0.65, 0.36))]
    assert captions(title, END_S) == ["How to keep a mango fresh All Week Long"]
    assert captions([title[0], {**title[1], "confidence": 0.5}], END_S) == []
    points = [line("• wash it in cold water", (0.2, 0.2, 0.8, 0.28)), line("• dry it well", (0.2, 0.28, 0.5, 0.36))]
    assert captions(points, END_S) == ["wash it in cold water", "dry it well"]
    labels = [
        line("Pink Lady", (0.4, 0.2, 0.6, 0.28), end_s=4.0),
        line("Royal Gala", (0.4, 0.28, 0.6, 0.36), end_s=4.0),
    ]
    assert captions(labels, END_S) == ["Pink Lady", "Royal Gala"]


def test_whole_sentences_of_speech_are_quoted() -> None:
    said = "and kept only those. We wash the mango first. Then it dries for a day. And we also have a..."
    assert quotable_speech(said) == "We wash the mango first. Then it dries for a day."
    assert quotable_speech("We wash the mango first. " + "Then it dries " * 12) == "We wash the mango first."
    assert quotable_speech("hm. word word word") == quotable_speech("Very " * 40 + "long.") == quotable_speech("") == ""


def test_speech_is_quoted_where_it_is_sure() -> None:
    parts = [{"source": "speech", "text": "We wash the mango first.", "confidence": sure} for sure in (0.9, 0.89, None)]
    assert [quotable({"timeline": [part]})[0] for part in parts] == ["We wash the mango first.", "", ""]
    assert quotable({"transcript": "We wash the mango first."})[0] == ""  # nobody says how sure


@pytest.mark.parametrize(("given", "sources"), [("transcript", ["speech"]), ("screen_text", ["screen"])])
def test_a_view_shows_the_timeline_of_its_fields_alone(given: str, sources: list[str]) -> None:
    timeline = [{"source": source, "text": "We wash it.", "confidence": 1.0} for source in ("speech", "screen")]
    row = {
        "kind": "video",
        "evidence": {"timeline": timeline, "transcript": "We wash it.", "screen_text": "We wash it."},
        "screen": {"lines": [CAPTION]},
    }
    values, _ = prompt_values(row, Attributes({}), {given})
    shown = spoken_evidence(row, values)
    assert [part["source"] for part in shown["timeline"]] == sources
    assert ("lines" in shown) == (given == "screen_text")
