"""Filter what a transcriber hears in a recording: join voiced spans to windows, drop words that were invented.

Speech models write words for music and noise too. So only spans with a voice are given to the model, and what it
writes must pass gates; what fails one is stored with the reason. The gates know no list of phrases that models invent.
`FakeTranscriber` is for tests: it hears loud spans and writes their pitch; a tone of 440 Hz becomes `tone 440`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


RATE = 16_000
"""Samples a second that a transcriber takes."""


@dataclass(frozen=True)
class Segment:
    """Words that were said between two times.

    Attributes:
        start_s, end_s: seconds from the first sample.
        confidence: 0 to 1, the geometric mean of the probabilities that the model gave to its tokens.
        no_speech: 0 to 1, how likely the model thinks that nobody speaks.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float
    no_speech: float


@dataclass(frozen=True)
class Dropped:
    """Words that a gate dropped, and the gate's name."""

    start_s: float
    end_s: float
    text: str
    reason: str


@dataclass(frozen=True)
class Transcript:
    """Transcript of one recording.

    Attributes:
        language: ISO 639 code; None where there is no speech, or where the language is not certain enough.
        language_confidence: 0 to 1, of the most likely language, also where `language` is None; 0 without speech.
        voiced_s: seconds in which there is a voice.
        segments, dropped: in order of time.
    """

    language: str | None
    language_confidence: float
    voiced_s: float
    segments: tuple[Segment, ...]
    dropped: tuple[Dropped, ...]


class Transcriber(Protocol):
    """Speech recogniser."""

    def identity(self) -> Mapping[str, Any]:
        """Return what decides its results, JSON-serialisable: digests of its files and versions. Loads no weights."""

    def transcribe(self, samples: Samples, hints: Sequence[str] = ()) -> Transcript:
        """Transcribe float32 [N] mono at `RATE`. The result depends on these samples and hints alone.

        Args:
            hints: texts with names that are likely to be said, the most likely first.
        """


Span = tuple[float, float]
"""Start and end of a stretch of voice in seconds."""


@dataclass(frozen=True)
class Gates:
    """Thresholds from which on words count as invented. The figures behind them are in LOG.md.

    Attributes:
        min_confidence: words of a lower confidence are `low_confidence`.
        max_no_speech: where the model itself thinks so surely that nobody speaks, words are `no_speech`; words of
            confidence `sure` or more are so from `max_no_speech_sure` on.
        min_voiced: words of whose time a smaller share has a voice are `no_voice`.
        max_repetition: words that compress by more than this factor say the same again and again: `repetition`.
        max_same: so many segments in a row may be the same words; further ones are `repetition`.
        max_letters_per_s: letters a second that a person can speak at most; faster words are `too_fast`.
    """

    min_confidence: float = 0.37
    max_no_speech: float = 0.6
    max_no_speech_sure: float = 0.8
    sure: float = 0.6
    min_voiced: float = 0.1
    max_repetition: float = 2.4
    max_same: int = 2
    max_letters_per_s: float = 30.0


def filter_segments(
    segments: Iterable[Segment], spans: Sequence[Span], gates: Gates
) -> tuple[tuple[Segment, ...], tuple[Dropped, ...]]:
    """Separate words that may have been said from invented ones; segments without a letter or digit vanish."""
    kept: list[Segment] = []
    dropped: list[Dropped] = []
    before, row = "", 0
    for segment in segments:
        plain = " ".join(re.findall(r"\w+", segment.text.casefold()))
        if not plain:
            continue
        row = row + 1 if plain == before else 1
        before = plain
        reason = _fault(segment, plain, row, spans, gates)
        if reason:
            dropped.append(Dropped(segment.start_s, segment.end_s, segment.text, reason))
        else:
            kept.append(segment)
    return tuple(kept), tuple(dropped)


def _fault(segment: Segment, plain: str, row: int, spans: Sequence[Span], gates: Gates) -> str | None:
    length_s = max(segment.end_s - segment.start_s, 1e-3)
    voiced_s = sum(max(0.0, min(end, segment.end_s) - max(start, segment.start_s)) for start, end in spans)
    if voiced_s < gates.min_voiced * length_s:
        return "no_voice"
    if segment.no_speech > (gates.max_no_speech if segment.confidence < gates.sure else gates.max_no_speech_sure):
        return "no_speech"
    if repetition(plain) > gates.max_repetition or row > gates.max_same:
        return "repetition"
    if segment.confidence < gates.min_confidence:
        return "low_confidence"
    if len(plain.replace(" ", "")) > gates.max_letters_per_s * max(length_s, 1.0):
        return "too_fast"
    return None


def repetition(text: str) -> float:
    """Compute how many times smaller zlib makes a text; plain speech stays below 2."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0


def words_of(text: str) -> list[str]:
    """List the words of a text without digits and marks, which a model reads as words of its own."""
    return re.findall(r"[^\W\d_]+", text)


def is_echo(text: str, hot_words: Iterable[str]) -> bool:
    """Tell whether a text consists of hot words alone: a model repeats them over sound in which nobody speaks."""
    own = {word.casefold() for word in hot_words}
    said = {word.casefold() for word in words_of(text)}
    return bool(said) and said <= own


@dataclass(frozen=True)
class Window:
    """Span of sound that the model gets at once: its first and last sample, and its voiced spans."""

    start: int
    end: int
    spans: tuple[Span, ...]

    def cut(self, samples: Samples, margin_s: float) -> Samples:
        """Cut out the window's samples, silent where no voice is near, so that the model hears no music."""
        heard = np.zeros(self.end - self.start, np.float32)
        for start, end in self.spans:
            first = max(self.start, round((start - margin_s) * RATE))
            last = min(self.end, round((end + margin_s) * RATE))
            heard[first - self.start : last - self.start] = samples[first:last]
        return heard

    @property
    def voiced_s(self) -> float:
        return sum(end - start for start, end in self.spans)


def windows(spans: Sequence[Span], count: int, *, longest_s: float, margin_s: float) -> list[Window]:
    """Join spans, in order of time, into as few windows as can hold them.

    Args:
        count: samples of the recording.
        longest_s: length of a window at most; a span with its margins must fit.
        margin_s: sound before and after a span that goes with it.
    """
    groups: list[list[Span]] = []
    for span in spans:
        if groups and span[1] - groups[-1][0][0] + 2 * margin_s <= longest_s:
            groups[-1].append(span)
        else:
            groups.append([span])
    found = []
    for place, group in enumerate(groups):
        start_s, end_s = group[0][0] - margin_s, group[-1][1] + margin_s
        if place:  # speech that goes on is cut in two, and no word may be heard on both sides
            start_s = max(start_s, (groups[place - 1][-1][1] + group[0][0]) / 2)
        if place + 1 < len(groups):
            end_s = min(end_s, (group[-1][1] + groups[place + 1][0][0]) / 2)
        found.append(Window(max(0, round(start_s * RATE)), min(count, round(end_s * RATE)), tuple(group)))
    return found


_FRAME = RATE // 10


_LOUD = 0.01  # RMS; a frame below it is silence


_SHORT_S = 0.25  # a shorter stretch is dropped, so that tests see both lists


class FakeTranscriber:
    """Transcriber for tests; see the module."""

    def identity(self) -> Mapping[str, Any]:
        return {"fake": 1}

    def transcribe(self, samples: Samples, hints: Sequence[str] = ()) -> Transcript:
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        loud = np.concatenate([[False], np.sqrt(np.mean(frames**2, axis=1)) > _LOUD, [False]])
        edges = np.flatnonzero(loud[1:] != loud[:-1]).reshape(-1, 2)
        segments, dropped = [], []
        for first, last in edges.tolist():
            spectrum = np.abs(np.fft.rfft(samples[first * _FRAME : last * _FRAME]))
            start_s, end_s = first * _FRAME / RATE, last * _FRAME / RATE
            text = f"tone {round(int(spectrum.argmax()) / (end_s - start_s))}"
            if end_s - start_s < _SHORT_S:
                dropped.append(Dropped(start_s, end_s, text, "too_fast"))
            else:
                segments.append(Segment(start_s, end_s, text, 1.0, 0.0))
        voiced_s = float(loud.sum()) * _FRAME / RATE
        return Transcript("en" if segments else None, float(bool(segments)), voiced_s, tuple(segments), tuple(dropped))
