"""Join shots, speech and text on screen to one timeline of an item, and write its two texts. Checks no truth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

Source = Literal["shot", "speech", "screen", "unread"]
"""`unread` is text on screen in a script that the reader cannot write: its words say so, and are none of the item."""

_SAME = 0.85  # share of equal letters from which two readings are one text: one letter of seven misread
_SUBTITLE = 0.8  # share of a line's words that are spoken while it stands: more, and it only repeats the speech


@dataclass(frozen=True)
class Evidence:
    """Entry of the timeline: a shot, a spoken segment or a line of text.

    Attributes:
        start_s, end_s: seconds from the start of the video; None for a picture.
        text: what is said or written; empty for a shot.
        confidence: 0 to 1, of the model that read it; None where it has none.
    """

    start_s: float | None
    end_s: float | None
    source: Source
    text: str
    confidence: float | None


def fuse(
    shots: Iterable[Mapping[str, Any]] = (),
    segments: Iterable[Mapping[str, Any]] = (),
    lines: Iterable[Mapping[str, Any]] = (),
) -> list[Evidence]:
    """Join shots, speech segments and lines of text in order of time; text of pictures, without a time, comes first.

    Args:
        shots: with `start_s` and `end_s`; `segments` and `lines`: with `text` and `confidence` besides.
    """
    found = [Evidence(shot["start_s"], shot["end_s"], "shot", "", None) for shot in shots]
    for source, entries in (("speech", segments), ("screen", lines)):
        found += [
            Evidence(entry["start_s"], entry["end_s"], source, entry["text"], entry["confidence"])  # type: ignore[arg-type]
            for entry in entries
        ]
    rank = {"shot": 0, "speech": 1, "screen": 2}
    return sorted(found, key=lambda one: (_from(one), one.end_s or 0.0, rank[one.source]))


def with_unread(timeline: Sequence[Evidence], lines: Iterable[Mapping[str, Any]]) -> list[Evidence]:
    """Add the lines on screen that could not be read, each named by its script, in order of time.

    Args:
        lines: with `start_s`, `end_s` and `script`.
    """
    named = [
        Evidence(line["start_s"], line["end_s"], "unread", f"perhaps {line['script']} text, not read", None)
        for line in lines
    ]
    return sorted([*timeline, *named], key=_from) if named else list(timeline)


def transcript(timeline: Sequence[Evidence]) -> str:
    """Join all that is said to running text."""
    return " ".join(entry.text.strip() for entry in timeline if entry.source == "speech")


def screen_text(timeline: Sequence[Evidence]) -> str:
    """Join all that is written, a line each: of like readings the most certain one, and no subtitles of the speech."""
    kept: list[Evidence] = []
    for line in (entry for entry in timeline if entry.source == "screen"):
        if _repeats_speech(line, timeline):
            continue
        twin = next((place for place, other in enumerate(kept) if _alike(line.text, other.text)), None)
        if twin is None:
            kept.append(line)
        elif (line.confidence or 0.0) > (kept[twin].confidence or 0.0):
            kept[twin] = line
    return "\n".join(line.text for line in kept)


def _repeats_speech(line: Evidence, timeline: Sequence[Evidence]) -> bool:
    words = _words(line.text)
    if line.start_s is None or line.end_s is None or len(words) < 3:  # a word or two, such as a name or a price, stays
        return False
    said = {
        word
        for entry in timeline
        if entry.source == "speech" and _from(entry) < line.end_s and (entry.end_s or 0.0) > line.start_s
        for word in _words(entry.text)
    }
    return sum(word in said for word in words) >= _SUBTITLE * len(words)


def _alike(one: str, other: str) -> bool:
    left, right = " ".join(_words(one)), " ".join(_words(other))
    if _digits(left) != _digits(right):  # prices that differ in one digit are two prices
        return False
    return SequenceMatcher(None, left, right, autojunk=False).ratio() >= _SAME


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _digits(text: str) -> list[str]:
    return re.findall(r"\d", text)


def _from(entry: Evidence) -> float:
    return -1.0 if entry.start_s is None else entry.start_s
