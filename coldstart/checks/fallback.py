"""What stands in for a description of which nothing is left: the best text of the item that passes the checks."""

from __future__ import annotations

import re

from coldstart.checks.contract import Rules, Sources
from coldstart.checks.contradiction import price
from coldstart.checks.form import unsafe
from coldstart.checks.grounding import Grounds
from coldstart.checks.instructions import evidence
from coldstart.checks.measures import numbers
from coldstart.checks.word_claims import form
from coldstart.checks.words import tokens
from coldstart.description import MAX_SUMMARY

_FIELDS = ("title", "description", "transcript", "screen_text", "tags", "category")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")


def own_text(sources: Sources, grounds: Grounds, rules: Rules) -> tuple[str, str] | None:
    """The first sentence of the first field that holds, and the field; None where none does."""
    for field in _FIELDS:
        text = _first_sentence(evidence(sources.texts.get(field) or ""))
        if not (form(text, MAX_SUMMARY) or price(numbers(tokens(text)), grounds) or unsafe(text, rules)):
            return text, field
    return None


def _first_sentence(text: str) -> str:
    first = _SENTENCE.split(text, maxsplit=1)[0]
    if len(first) <= MAX_SUMMARY:
        return first
    return first[: MAX_SUMMARY - 2].rsplit(" ", 1)[0].rstrip(",;:") + " …"
