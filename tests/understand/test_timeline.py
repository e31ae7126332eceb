"""What is said, shown and written in an item, in one order of time and as two texts."""

from __future__ import annotations

from typing import Any

import pytest

from coldstart.understand.stages.evidence import FuseEvidence
from coldstart.understand.timeline import Evidence, fuse, screen_text, transcript


def said(start_s: float, end_s: float, text: str, confidence: float = 0.9) -> dict[str, Any]:
    return {"start_s": start_s, "end_s": end_s, "text": text, "confidence": confidence}


def written(start_s: float | None, end_s: float | None, text: str, confidence: float = 0.9) -> dict[str, Any]:
    return {"start_s": start_s, "end_s": end_s, "text": text, "confidence": confidence}


def test_all_sources_stand_in_order_of_time() -> None:
    shots = [{"start_s": 0.0, "end_s": 2.0}, {"start_s": 2.0, "end_s": 5.0}]
    timeline = fuse(shots, [said(1.5, 4.0, "fresh pears")], [written(0.5, 2.0, "49.90"), written(2.0, 3.0, "kr")])
    assert [(entry.start_s, entry.source) for entry in timeline] == [
        (0.0, "shot"),
        (0.5, "screen"),
        (1.5, "speech"),
        (2.0, "screen"),
        (2.0, "shot"),
    ]
    assert timeline[0] == Evidence(0.0, 2.0, "shot", "", None)


def test_text_of_pictures_has_no_time_and_comes_first() -> None:
    timeline = fuse(segments=[said(0.0, 1.0, "hello")], lines=[written(None, None, "OAT MILK")])
    assert [entry.text for entry in timeline] == ["OAT MILK", "hello"]
    assert screen_text(timeline) == "OAT MILK"


def test_the_transcript_is_what_is_said_in_order() -> None:
    timeline = fuse(segments=[said(3.0, 4.0, " and ripe. "), said(0.0, 2.0, "They are green")])
    assert transcript(timeline) == "They are green and ripe."
    assert transcript([]) == ""


def test_like_readings_are_one_line_in_the_more_certain_reading() -> None:
    lines = [written(0, 2, "Golden Dellcious", 0.6), written(5, 7, "Golden Delicious", 0.95)]
    assert screen_text(fuse(lines=lines)) == "Golden Delicious"


def test_prices_that_differ_in_one_digit_are_two_lines() -> None:
    lines = [written(0, 2, "Only 49.90 kr", 0.9), written(5, 7, "Only 41.90 kr", 0.95)]
    assert screen_text(fuse(lines=lines)) == "Only 49.90 kr\nOnly 41.90 kr"


def test_subtitles_are_left_out_and_other_words_stay() -> None:
    segments = [said(0.0, 3.0, "These pears are ripe and sweet")]
    lines = [
        written(0.0, 3.0, "these pears are RIPE and sweet"),
        written(0.5, 3.0, "pears"),  # a word or two may be a label
        written(0.5, 3.0, "20 % off until Sunday"),
        written(6.0, 8.0, "these pears are ripe"),  # not said at that time
    ]
    assert screen_text(fuse(segments=segments, lines=lines)).splitlines() == [
        "pears",
        "20 % off until Sunday",
        "these pears are ripe",
    ]


@pytest.mark.parametrize("missing", ["shots", "speech", "screen"])
def test_a_part_without_a_row_adds_nothing(missing: str) -> None:
    row = {
        "shots": {"shots": [{"start_s": 0.0, "end_s": 1.0, "frame_s": 0.5, "group": 0}]},
        "speech": {"segments": [said(0.0, 1.0, "good morning")], "language": "en"},
        "screen": {"lines": [written(0.0, 1.0, "OPEN")]},
    }
    whole, cost = FuseEvidence()(row)
    assert cost == 1.0 and len(whole["timeline"]) == 3
    assert (whole["transcript"], whole["screen_text"], whole["language"]) == ("good morning", "OPEN", "en")
    part, _ = FuseEvidence()({**row, missing: None})
    assert len(part["timeline"]) == 2
    empty = {"speech": ("transcript", ""), "screen": ("screen_text", "")}
    if missing in empty:
        column, value = empty[missing]
        assert part[column] == value
