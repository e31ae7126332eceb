"""Check the sentences of an answer: each cite is opened, and what a sentence states must stand in what it cites.

Numbers must be those of typed fields or of aggregates; names, colours, quoted words and all other words that state
something must stand in a cited field or in the question. A sentence that cites a field which gives orders to whoever
reads it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from coldstart.describe.checks.form import evidence_text, injection_fault
from coldstart.serve.ask.answers import Cite, Sentence, Session
from coldstart.serve.ask.words import STOP
from coldstart.serve.vocabulary import normal, parse_number

TYPED = ("price", "created_at", "score", "rank", "frame_s", "words_s", "shows", "label_score")
"""Fields whose numbers an answer may state as facts."""
COLOURS = frozenset(
    [
        "black",
        "white",
        "red",
        "blue",
        "green",
        "yellow",
        "orange",
        "purple",
        "pink",
        "brown",
        "grey",
        "gray",
        "beige",
        "navy",
        "gold",
        "silver",
        "violet",
        "turquoise",
        "maroon",
        "teal",
        "cream",
        "khaki",
        "olive",
        "magenta",
        "lavender",
    ]
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
_QUOTE = re.compile(r"“([^”]*)”|\"([^\"]*)\"")
_LINK = re.compile(r"\b(?:https?:|www\.)|\b[\w-]+\.(?:com|net|org|io|example)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<!^)(?<![.!?:] )\b[A-ZÀ-Þ][\w'’-]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:]+Z)?")
_MIXED = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])\w[\w-]*")
_CODE = re.compile(r"[{}<>‹›]|\]\(|\b(?:system|assistant|developer)\s*:", re.IGNORECASE)
_PLAIN = STOP | frozenset(
    normal(
        "meet condition first named average price over add shows names stands screen near likely like most cost said "
        "category creator attribute colour title description total together least greatest same while whereas because "
        "both than times second seconds following matching found result answer called mentions part another copy "
        "copies meets currency served"
    ).split()
)
"""Words that state nothing of an item."""
_ID = re.compile(r"[\w](?:[\w./:@-]*[\w])?")
_COMMON = frozenset(
    [
        "the",
        "a",
        "an",
        "it",
        "its",
        "is",
        "are",
        "was",
        "of",
        "in",
        "on",
        "at",
        "for",
        "to",
        "and",
        "or",
        "by",
        "with",
        "from",
        "no",
        "not",
        "only",
        "both",
        "also",
        "this",
        "that",
        "these",
        "those",
        "there",
        "item",
        "items",
        "product",
        "products",
        "video",
        "videos",
        "catalogue",
        "one",
        "i",
    ]
)


def check_sentence(sentence: Sentence, session: Session, question: str = "") -> tuple[Sentence | None, str]:
    """Check one sentence against what was returned in the session.

    Returns:
        The sentence with the cites that hold, and ""; or None and the reason why it is cut.
    """
    opened = {cite: text for cite in dict.fromkeys(sentence.cites) if (text := open_cite(cite, session)) is not None}
    if not opened:
        return None, "no cite that was returned"
    grounds = {cite: text for cite, text in opened.items() if is_honest(text)}
    if len(grounds) < len(opened):
        return None, "what it cites gives orders"
    stated = sentence.text
    stated = _without_ids(stated, {*session.fields, *session.named})
    every = " \n ".join(grounds.values())
    plain = f" {normal(every)} "
    for quote in (first or second for first, second in _QUOTE.findall(stated)):
        if f" {normal(quote.rstrip('…'))} "[:-1] not in plain:
            return None, f"“{quote[:40]}” does not stand in what it cites"
    stated = _QUOTE.sub(" ", stated)
    if _LINK.search(stated) or injection_fault(stated) is not None:
        return None, "it gives an order or a link"
    typed = " ".join(text for cite, text in grounds.items() if cite.call is not None or cite.field in TYPED)
    times = set(_TIME.findall(typed)) | {time[:10] for time in _TIME.findall(typed)}
    for time in _TIME.findall(stated):
        if time not in times:
            return None, f"{time} is in no field that it cites"
    numbers = set(_numbers(_TIME.sub(" ", typed)))
    for number in _numbers(_TIME.sub(" ", stated)):
        if not any(abs(number - own) <= 0.005 + 1e-9 for own in numbers):
            return None, f"{number:g} is in no field that it cites"
    for token in _MIXED.findall(_TIME.sub(" ", stated)):
        if f" {normal(token)} " not in plain:
            return None, f"{token} was not returned"
    asked = f" {normal(question)} "
    for name in [*_NAME.findall(stated), *(word for word in re.findall(r"\w+", stated) if word.lower() in COLOURS)]:
        form = f" {normal(name)} "
        if name.lower() not in _COMMON and form not in plain and (name.lower() in COLOURS or form not in asked):
            return None, f"{name} is in no field that it cites"
    for word in normal(_TIME.sub(" ", stated)).split():
        if len(word) > 3 and word.isalpha() and word not in _PLAIN and f" {word} " not in plain + asked:
            return None, f"{word} is in no field that it cites"
    return Sentence(sentence.text, tuple(grounds)), ""


def check_all(
    sentences: Iterable[Sentence], session: Session, question: str = ""
) -> tuple[list[Sentence], list[tuple[str, str]]]:
    """Check sentences; returns those that stay, and those that were cut with the reason."""
    stay: list[Sentence] = []
    cut: list[tuple[str, str]] = []
    for sentence in sentences:
        checked, reason = check_sentence(sentence, session, question)
        if checked is None:
            cut.append((sentence.text, reason))
        else:
            stay.append(checked)
    return stay, cut


def open_cite(cite: Cite, session: Session) -> str | None:
    """Read what a cite points at; None where no call of this session returned that."""
    if cite.call is not None:
        number = session.numbers.get(cite.call, {}).get(cite.field)
        return None if number is None else f"{number} {cite.field}"
    text = session.fields.get(cite.item or "", {}).get(cite.field)
    return None if text is None or not text else text


def _without_ids(text: str, known: Collection[str]) -> str:
    """Take out the ids of items that were returned or asked for; a made-up one stays, and its digits have no ground."""
    return _ID.sub(lambda found: " " if found[0] in known else found[0], text)


def is_honest(text: str) -> bool:
    """Tell whether a text gives no order."""
    return injection_fault(text) is None and evidence_text(text) != "" and not _CODE.search(text)


def _numbers(text: str) -> list[float]:
    found = []
    for number in _NUMBER.findall(text):
        try:
            found.append(parse_number(number))
        except ValueError:
            continue
    return found
