"""Rows of the stages of understand, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from known import Part

SHOTS = {
    "shots": [
        {"start_s": 0.0, "end_s": 3.6, "frame_s": 1.8, "group": 0},
        {"start_s": 3.6, "end_s": 10.8, "frame_s": 7.2, "group": 1},
    ],
    "frame_times_s": [1.8, 7.2],
    "watched_s": 10.8,
}


SPEECH = {
    "language": "en",
    "language_confidence": 0.9,
    "heard_s": 10.8,
    "voiced_s": 3.5,
    "segments": [{"start_s": 0.4, "end_s": 2.3, "text": "Red, yellow and green.", "confidence": 0.75}],
    "dropped": [{"start_s": 9.0, "end_s": 10.0, "text": "Thanks for watching!", "reason": "no_voice"}],
}


LINE = {"box": [0.1, 0.8, 0.9, 0.9], "frames": 3, "medium": 0}


SCREEN = {
    "lines": [{"start_s": 3.5, "end_s": 5.0, "text": "18.90 kr", "confidence": 0.5, **LINE}],
    "frames_read": 4,
    "frames_skipped": 2,
}


MATCH = {"start_s": 0.0, "end_s": 5.0, "other_start_s": 1.0, "other_end_s": 6.5}


def part(name: str, kind: Callable[..., Any] = Part, **options: Any) -> Any:
    return kind(f"understand.{name}", f"understand.{name}", **options)
