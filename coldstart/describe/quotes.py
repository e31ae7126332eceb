"""Quote what others wrote or said of an item: lines on the screen, speech, sentences of its seller.

Chosen are pieces that a page can show: words, not prices, prints or misheard sounds. Knows no attributes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

MOST_QUOTED = 120
"""Characters of a quotation."""
SURE_SPEECH, SURE_PRINT = 0.9, 0.95
"""Confidence of speech and of lines on the screen from which they are quoted. Of the sentences that whisper-base wrote
of made voices with 0.65 or more a third was what was said, and none had 0.8; kinds of goods are mentioned without."""
_MOST_LINES = 3


def quotable(evidence: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """Return what may be quoted of an item's evidence: whole sentences of speech, and lines on the screen.

    Speech is quoted where its timeline states how sure it is. Lines with their places (`lines`, of the stage
    `understand.screen`) are chosen by these; without them by their words alone.
    """
    evidence = evidence or {}
    timeline = evidence.get("timeline")
    if timeline is None:
        return "", quotable_lines(evidence.get("screen_text") or "")
    said = " ".join(
        part.get("text") or ""
        for part in timeline
        if part["source"] == "speech" and (part.get("confidence") or 0.0) >= SURE_SPEECH
    )
    placed = evidence.get("lines")
    if placed is None:
        placed = [part for part in timeline if part["source"] == "screen"]
    end_s = max((part.get("end_s") or 0.0 for part in (*timeline, *placed)), default=0.0)
    return quotable_speech(said), quotable_lines("\n".join(captions(placed, end_s)))


@dataclass(frozen=True)
class _Line:
    """Line on the screen; the box is that of left, top, right and bottom, in shares of the frame."""

    text: str
    start_s: float
    end_s: float
    box: tuple[float, float, float, float] | None
    listed: bool
    sure: bool

    @property
    def height(self) -> float:
        return 0.0 if self.box is None else self.box[3] - self.box[1]


_MARK = re.compile(r"^\s*(?:[•●▪◦‣∙·■□◆►▶➤✓✔»>*–—-]+|\(?\d{1,2}[.)](?=\s|[^\W\d_])|\(?[a-z]\))\s*(?=\S)")
_ADDRESS = re.compile(r"https?:|www\.|\S@\S|(?<!\w)@\w|\b[\w-]{2,}\.[a-z]{2,6}(?:/\S*)?(?![\w.])", re.I)
_EDGE = 0.005
_SIDE, _BAND = 0.35, 0.2
_SMALL_HEIGHT, _SMALL_WIDTH = 0.08, 0.3
_ALL_ALONG = 0.9
_MOST_READ = 500  # lines of one item, since each may be compared with each


def captions(lines: Sequence[Mapping[str, Any]], end_s: float) -> list[str]:
    """Choose texts that a creator put on the screen, largest print first in doubt, in the order of time.

    Left out are addresses and names of accounts; lines that touch a side of the frame, which may be cut; small print
    in a corner, such as the buttons of a player; and marks that stand in a corner or in the middle all along the clip.
    Lines that go on below each other are one text, quoted whole or not at all.

    Args:
        lines: with `text`, `confidence`, `start_s`, `end_s`, and `box` where it is known.
        end_s: end of the clip.
    """
    own = [_line(one) for one in lines[:_MOST_READ]]
    blocks = _blocks(own)
    texts = [" ".join(line.text for line in block) for block in blocks]
    chosen: list[int] = []
    for place in sorted(range(len(blocks)), key=lambda place: -max(line.height for line in blocks[place])):
        if (
            all(line.sure and not _ADDRESS.search(line.text) for line in blocks[place])
            and quotable_lines(texts[place])
            and not any(_alike(texts[place], texts[other]) for other in chosen)
            and not any(_is_overlay(line, own, end_s) for line in blocks[place])
        ):
            chosen.append(place)
        if len(chosen) == 2 * _MOST_LINES:
            break
    return [texts[place] for place in sorted(chosen, key=lambda place: (blocks[place][0].start_s, place))]


def _line(one: Mapping[str, Any]) -> _Line:
    text = " ".join((one.get("text") or "").split())
    box = one.get("box")
    return _Line(
        _MARK.sub("", text),
        one.get("start_s") or 0.0,
        one.get("end_s") or 0.0,
        None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        _MARK.match(text) is not None,
        (one.get("confidence") or 0.0) >= SURE_PRINT,
    )


def _blocks(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Join lines that go on below each other, in order of time and from top to bottom."""
    found: list[list[_Line]] = []
    for line in sorted(lines, key=lambda one: (one.start_s, one.end_s, one.box[1] if one.box else 0.0)):
        if found and _goes_on(found[-1][-1], line):
            found[-1].append(line)
        else:
            found.append([line])
    return found


def _goes_on(before: _Line, line: _Line) -> bool:
    """Tell whether a line is the rest of the one above: a full line, and below it in the same print."""
    if before.box is None or line.box is None or line.listed or not before.text or before.text[-1] in ".!?:":
        return False
    same_time = (before.start_s, before.end_s) == (line.start_s, line.end_s)
    if not same_time or not 0.6 * before.height < line.height < 1.6 * before.height:
        return False
    below = -0.3 * before.height <= line.box[1] - before.box[3] <= 0.6 * before.height
    centres = [(box[0] + box[2]) / 2 for box in (before.box, line.box)]
    aligned = abs(before.box[0] - line.box[0]) < 0.05 or abs(centres[0] - centres[1]) < 0.05
    width = before.box[2] - before.box[0]
    full = width >= 0.5 and width >= line.box[2] - line.box[0]
    return below and aligned and (full or line.text[:1].islower())


def _is_overlay(line: _Line, lines: Sequence[_Line], end_s: float) -> bool:
    """Tell by its place whether a line may be cut, or is a mark or button over the picture and no words about it."""
    if line.box is None:
        return False
    left, top, right, bottom = line.box
    if min(left, top) <= _EDGE or max(right, bottom) >= 1 - _EDGE:
        return True
    width, height = right - left, bottom - top
    corner = (right <= _SIDE or left >= 1 - _SIDE) and (bottom <= _BAND or top >= 1 - _BAND)
    if corner and width <= _SMALL_WIDTH and height <= _SMALL_HEIGHT:
        return True
    middle = abs((left + right) / 2 - 0.5) < 0.06 and 0.25 < (top + bottom) / 2 < 0.75 and len(line.text.split()) <= 2
    return (corner or middle) and _stands_s(line, lines) >= _ALL_ALONG * end_s > 0


def _stands_s(line: _Line, lines: Sequence[_Line]) -> float:
    """Count the seconds in which this text, however it is read, stands at this place."""
    spans = sorted(
        (one.start_s, one.end_s)
        for one in lines
        if one.box is not None and line.box is not None and _overlap(one.box, line.box) >= 0.5
        if _alike(one.text, line.text, 0.6)
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        total, until = total + max(0.0, end - max(start, until)), max(until, end)
    return total


def _alike(one: str, other: str, least: float = 0.85) -> bool:
    """Tell whether two texts are readings of one, by the share of equal letters."""
    return SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio() >= least


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Compute intersection over union of two boxes."""
    wide, high = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    shared = max(0.0, wide) * max(0.0, high)
    return shared / (sum(areas) - shared) if shared else 0.0


_PRICE = re.compile(
    r"\s*(?:[$€£]\s*\d[\d.,:]*|\d[\d.,:]*\s*(?:kr|sek|eur|usd|€|\$|£|:-)|\d+[.,]\d\d)(?:\s*/\s*\w+|\s+each)?$", re.I
)
_PRICED = re.compile(r"\d\s*(?:kr|sek|eur|usd|€|\$|£|%|:-)|[$€£]\s*\d|\d[.,]\d\d(?!\d)", re.I)
_LONGEST_LINE = 90


def quotable_lines(screen_text: str) -> list[str]:
    """Choose up to three lines on the screen that read as words: two words or more, or one long one; no prices."""
    found: list[str] = []
    for line in screen_text.splitlines():
        line = _PRICE.sub("", _MARK.sub("", " ".join(line.split()))).strip(" -–·:,;/")
        words = [word for word in line.split() if len(re.findall(r"[^\W\d_]", word)) >= 2]
        letters = sum(letter.isalpha() for letter in line)
        if not words or letters < 0.7 * len(line.replace(" ", "")) or len(line) > _LONGEST_LINE or '"' in line:
            continue
        if _PRICED.search(line) or _ADDRESS.search(line):
            continue
        if len(words) == 1 and not ((len(line) >= 5 and line.istitle()) or (not line.isascii() and not line.isupper())):
            continue
        # Print on packages is in capitals and read badly; captions of a creator have words that differ.
        if line.isupper() and (len(words) < 3 or len({word[:4] for word in words}) < len(words)):
            continue
        found.append(line)
    folded = [line.casefold() for line in found]
    kept = [
        line
        for place, line in enumerate(found)
        if not any(
            folded[place] in other and (folded[place] != other or second < place)
            for second, other in enumerate(folded)
            if second != place
        )
    ]
    return kept[:_MOST_LINES]


_SAID = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


def quotable_speech(transcript: str) -> str:
    """Return the first whole sentences of what is said, up to `MOST_QUOTED` characters; "" where there is none.

    A sentence is whole that begins with a capital (where its script has any) and has an end.
    """
    whole = [one for one in _SAID.split(" ".join(transcript.split()).replace('"', "'")) if _is_whole(one)]
    if not whole or len(whole[0]) > MOST_QUOTED:
        return ""
    lengths = itertools.accumulate(len(one) + 1 for one in whole)
    return " ".join(one for one, length in zip(whole, lengths, strict=True) if length - 1 <= MOST_QUOTED)


def _is_whole(sentence: str) -> bool:
    words = re.findall(r"[^\W\d_]{2,}", sentence)
    begins = sentence[:1].isalnum() and not sentence[:1].islower()
    return (
        begins
        and sentence[-1] in ".!?。！？"
        and not sentence.endswith("..")
        and (len(words) >= 3 or not sentence.isascii())
    )


_ADDRESSED = re.compile(
    r"\b(?:i|me|my|we|us|our|ours|you|your|yours|buy|click|order|subscribe|follow|http\S*|www\S*|sale|discount|"
    r"free shipping|ignore|instructions?)\b|[!?<>{}]|[$€£]\s*\d|\d\s*(?:[$€£]|kr|eur|usd)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|[\"“'(])")
_REFERS_BACK = re.compile(r"(?:these|this|those|they|it|its|then|finally|both|also|he|she|such)\b", re.I)
_MOST_OWN = 2
_LONGEST_OWN = 220


def first_facts(description: str, unlike: Collection[str] = ()) -> list[str]:
    """Return up to two of the first sentences of an item's own description that state something of it.

    Left out are those that speak to the reader, name prices or addresses, or are longer than 220 characters, and those
    that compare: with one of the words or names in `unlike`, small letters, which are values of other items.
    """
    tidy, unlike_set = " ".join(description.split()), frozenset(unlike)
    found: list[str] = []
    left_out = False
    for one in _SENTENCE.split(tidy)[:4]:
        if left_out and _REFERS_BACK.match(one):
            break
        if len(one.split()) < 4 or len(one) > _LONGEST_OWN or _ADDRESSED.search(one) or names_of(one) & unlike_set:
            left_out = True
            continue
        found.append(one if one[-1] in ".!?…" else f"{one}.")
        if len(found) == _MOST_OWN:
            break
    return found


def names_of(text: str) -> frozenset[str]:
    """Return the words of a text and its runs of two and three, in small letters."""
    words = re.findall(r"[\w'-]+", text.casefold())
    return frozenset(" ".join(words[place : place + size]) for size in (1, 2, 3) for place in range(len(words)))


_VERB = re.compile(r"(?:is|are|has|have|was|can|contains?|comes?|reminds?|fits?|tastes?|suits?|makes?|belongs?)\b")


def with_pronoun(text: str, title: str | None) -> str:
    """Put a pronoun in the place of a title that begins a sentence: `Banana is ripe.` becomes `It is ripe.`"""
    name = " ".join((title or "").split())
    if not name or not text.casefold().startswith(f"{name.casefold()} "):
        return text
    rest = text[len(name) + 1 :]
    verb = _VERB.match(rest)
    if verb is None:
        return text
    return f"{'They' if verb.group() in ('are', 'have') else 'It'} {rest}"


_WITHOUT_SUBJECT = re.compile(r"(?:Has|Is|Can be|Contains|Comes|Fits|Tastes|Suits)\b")


def with_subject(text: str) -> str:
    """Give a sentence of a seller that begins with its verb a subject: `Fits well in the salad.`"""
    return f"It {text[0].lower()}{text[1:]}" if _WITHOUT_SUBJECT.match(text) and text[-1] != "?" else text
