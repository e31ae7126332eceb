"""Faults that show in a text by itself: refusals, loops, links, marks, too much of it; each a reason or None."""

from __future__ import annotations

import re
from collections import Counter

from coldstart.checks.contract import Rules
from coldstart.checks.words import Tokens

Fault = tuple[str, str]
"""Reason and detail."""

_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|language) (?:language )?(?:model|assistant)\b|^as an ai\b"
    r"|^(?:i'?m|i am) (?:sorry|afraid|unable|not able)\b|^sorry\b[,.!]? (?:but )?i\b|\bi apologi[sz]e\b"
    r"|\bi (?:can(?:no|')?t|can not|am unable to|am not able to|won'?t|will not)\b"
    r"|\bi (?:do not|don'?t) have (?:access|enough|any|the)\b"
    r"|\b(?:no|not enough|insufficient) (?:information|details|context|data) (?:is |was |were |are )?"
    r"(?:given|provided|available|to describe)\b"
    r"|\bplease provide\b|\bsure[,!] here\b|\bhere is (?:the|a|your) (?:json|description|summary)\b",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"https?:|\bwww\.|\b[\w.+-]+@[\w-]+\.\w+|\b[a-z0-9][a-z0-9-]*\.(?:com|net|org|io|ru|cn|biz|info|xyz|top|shop|me|gg)\b"
    r"|javascript:|(?:\+|\b00)\d[\d ()-]{7,}\d",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"<[/a-z!|?][^<>]*>|<\||\|>|\]\(|!\[|```|\{\{|\{%|[{}]|\[/?inst\]|\*\*|^#+ ", re.IGNORECASE)
_MAYBE_LINK = re.compile(r"[.:@+]|00")  # quick: most texts have none of these
_MAYBE_MARKUP = re.compile(r"[<>{}\[\]`*#|]")
_RUN = 3  # words of a phrase
_TIMES = 3  # that it may stand, one less


def refusal(text: str) -> Fault | None:
    """The model speaks of itself or to whoever asked."""
    match = _REFUSALS.search(text)
    return ("refusal", f"it says {match.group()!r}") if match else None


def link(text: str) -> Fault | None:
    """An address, a number to call: nothing that tells what an item is."""
    match = _LINK.search(text) if _MAYBE_LINK.search(text) else None
    return ("link", f"it has {match.group()!r}") if match else None


def markup(text: str) -> Fault | None:
    """Marks of a page, a chat or JSON."""
    match = _MARKUP.search(text) if _MAYBE_MARKUP.search(text) else None
    return ("markup", f"it has {match.group()!r}") if match else None


def loop(words: Tokens) -> Fault | None:
    """The same words again and again: a word three times in a row, or a phrase of three words three times."""
    for place in range(2, len(words)):
        if words[place] == words[place - 1] == words[place - 2]:
            return "loop", f"{words[place]!r} stands 3 times in a row"
    if len(words) < _RUN * _TIMES:
        return None
    phrases = Counter(zip(*(words[start:] for start in range(_RUN)), strict=False))
    phrase, times = phrases.most_common(1)[0]
    return ("loop", f"{' '.join(phrase)!r} stands {times} times") if times >= _TIMES else None


def too_long(text: str, most: int) -> Fault | None:
    """More characters than a field may have."""
    return ("overlong", f"{len(text)} characters, and {most} are the most") if len(text) > most else None


def unsafe(text: str, rules: Rules) -> Fault | None:
    """What the safety policy does not allow."""
    for rule, score in sorted(rules.policy(text).items()) if rules.policy else ():
        if score >= rules.max_unsafe:
            return "unsafe", f"{rule} {score:g}, and {rules.max_unsafe:g} is too much"
    return None
