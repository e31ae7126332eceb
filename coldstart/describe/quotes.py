"""Quote what others wrote or said of an item: lines on the screen, speech, sentences of its seller.

Chosen are pieces that a page can show: words, not prices, prints or misheard sounds. Knows no attributes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MOST_QUOTED = 120
"""Characters of a quotation from speech."""
SURE_SPEECH, SURE_PRINT = 0.65, 0.95
"""Confidence of speech and of lines on the screen from which they are quoted."""
_MOST_LINES = 3


def quotable(evidence: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """Return what may be quoted of an item's evidence: speech, and lines on the screen.

    Where the evidence has a timeline, parts of low confidence are left out.
    """
    evidence = evidence or {}
    timeline = evidence.get("timeline")
    if timeline is None:
        return quotable_speech(evidence.get("transcript") or ""), quotable_lines(evidence.get("screen_text") or "")
    sure = {"speech": SURE_SPEECH, "screen": SURE_PRINT}
    texts: dict[str, list[str]] = {"speech": [], "screen": []}
    for part in timeline:
        if part["source"] in sure and (part.get("confidence") or 0.0) >= sure[part["source"]]:
            texts[part["source"]].append(part.get("text") or "")
    return quotable_speech(" ".join(texts["speech"])), quotable_lines("\n".join(texts["screen"]))


_PRICE = re.compile(
    r"\s*(?:[$€£]\s*\d[\d.,:]*|\d[\d.,:]*\s*(?:kr|sek|eur|usd|€|\$|£|:-)|\d+[.,]\d\d)(?:\s*/\s*\w+|\s+each)?$", re.I
)
_PRICED = re.compile(r"\d\s*(?:kr|sek|eur|usd|€|\$|£|%|:-)|[$€£]\s*\d|\d[.,]\d\d(?!\d)", re.I)


def quotable_lines(screen_text: str) -> list[str]:
    """Choose up to three lines on the screen that read as words: two words or more, or one long one; no prices."""
    found: list[str] = []
    for line in screen_text.splitlines():
        line = re.sub(r"^\s*\d+[.)]\s*", "", _PRICE.sub("", " ".join(line.split()))).strip(" -–·:,;/")
        words = [word for word in line.split() if len(re.findall(r"[^\W\d_]", word)) >= 2]
        letters = sum(letter.isalpha() for letter in line)
        if not words or letters < 0.7 * len(line.replace(" ", "")) or len(line) > 60 or '"' in line:
            continue
        if _PRICED.search(line):
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


def quotable_speech(transcript: str) -> str:
    """Return the beginning of what is said, up to the end of a sentence or a word within `MOST_QUOTED` characters."""
    said = " ".join(transcript.split()).replace('"', "'")
    if len(re.findall(r"[^\W\d_]{2,}", said)) < 3:
        return ""
    if len(said) <= MOST_QUOTED:
        return said if said[-1] in ".!?…" else f"{said}."
    start = said[:MOST_QUOTED]
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s)", start)]
    whole = start[: ends[-1]] if ends else ""
    return whole if len(whole) >= MOST_QUOTED // 3 else f"{start.rsplit(' ', 1)[0].rstrip(',;:')} …"


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
