"""Data to text without values: patterns of facts, sentences with slots, and the grammar that binds them.

Facts of an item become a pattern (`kind:one colour audience brand`), its values slots. A catalogue's own sentences
become templates where all their other words are frame words, which occur beside other values as well and are no value
themselves. So a template can say nothing of an item but its facts, and items of one pattern share templates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from coldstart.core.attributes import Attributes
from coldstart.core.stage import Row
from coldstart.describe.prompt_input import item_facts
from coldstart.describe.sentences import PLANS, Parts, fill, plan_template, slots_of

MIN_BESIDE = 3
"""Different items beside which a word of a seller's sentence must stand to be a frame word."""
_WORD = re.compile(r"\[[a-z]+\]|[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PLAIN = re.compile(r"(?:\[[a-z]+\]|[^\W\d_'’-][\w'’-]*|[.,;:!?]| )+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MOST_WORDS = 40


@dataclass(frozen=True)
class FactItem:
    """Item of a fit: its pattern, values by slot, its title, and sentences of its seller."""

    item_id: str
    pattern: str
    slots: Mapping[str, str]
    title: str
    sentences: tuple[str, ...]


def fact_items(rows: Iterable[Row], attributes: Attributes) -> list[FactItem]:
    """Collect products with facts; the brand counts whether or not the title names it."""
    found = []
    for row in rows:
        if row["kind"] != "product":
            continue
        stated = attributes.of(row["category"])
        facts = {name: fact.value for name, fact in item_facts(row, stated).items()}
        parts = Parts.of(facts, stated, creator=row["creator"], title=None)
        if parts and parts.pattern:
            own = _SENTENCE.split(" ".join((row["description"] or "").split()))[:3]
            found.append(FactItem(row["item_id"], parts.pattern, parts.slots, row["title"] or "", tuple(own)))
    return found


def delexicalise(text: str, slots: Mapping[str, str]) -> str | None:
    """Put slots in place of an item's values; None where a value stands twice or none does."""
    for name, value in sorted(slots.items(), key=lambda one: -len(one[1])):
        text, count = re.subn(rf"(?<![\w\[]){re.escape(value)}(?![\w\]])", f"[{name}]", text, flags=re.I)
        if count > 1:
            return None
    return text if slots_of(text) else None


def words_of_values(items: Iterable[FactItem]) -> frozenset[str]:
    """Collect the words of all values, which no frame may have; joining words such as `and` are none."""
    return frozenset(
        word for item in items for value in item.slots.values() for word in _words(value) if word not in _JOINS
    )


_JOINS = frozenset("and of for the in by a an with wear use collection".split())  # noqa: SIM905


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text) if not word.startswith("[")]


def plan_templates(pattern: str) -> list[str]:
    """Return the templates of the fixed rules for a pattern, the default first."""
    return list(dict.fromkeys(plan_template(pattern, plan) for plan in PLANS))


def own_templates(items: Sequence[FactItem]) -> dict[str, Counter[str]]:
    """Collect templates of the sellers' sentences: pattern of the facts that one says -> template -> times.

    Kept are sentences of two slots or more whose other words are frame words.
    """
    found: list[tuple[FactItem, str]] = []
    beside: dict[str, set[str]] = {}
    for item in items:
        for sentence in item.sentences:
            if len(sentence.split()) <= _MOST_WORDS and (template := delexicalise(sentence, item.slots)):
                found.append((item, template))
                for word in _words(template):
                    beside.setdefault(word, set()).add(item.item_id)
    values = words_of_values(items)
    frame = {word for word, own in beside.items() if len(own) >= MIN_BESIDE} - values
    kept: dict[str, Counter[str]] = {}
    for item, template in found:
        slots = slots_of(template)
        if len(slots) < 2 or not _PLAIN.fullmatch(template) or not set(_words(template)) <= frame:
            continue
        number = next((word for word in item.pattern.split() if word.startswith("kind:")), "")
        pattern = " ".join(
            word
            for word in item.pattern.split()
            if word.partition(":")[0] in slots or (word == number and "kind" in slots)
        )
        kept.setdefault(pattern, Counter())[template if template[-1] in ".!?" else f"{template}."] += 1
    return kept


def sub_patterns(pattern: str, dropped: int = 2) -> list[str]:
    """List a pattern and those with up to `dropped` of its facts left out, so that few facts are learnt as well."""
    words = pattern.split()
    sizes = range(len(words), max(0, len(words) - dropped - 1), -1)
    return [" ".join(chosen) for size in sizes for chosen in combinations(words, size)]


@dataclass(frozen=True)
class TemplateGrammar:
    """Bound on templates: slots of the pattern, frame words, points and commas.

    Attributes:
        frame: words as they are written, without those of any value.
    """

    frame: tuple[str, ...]

    @classmethod
    def of(cls, templates: Iterable[str], values: Collection[str]) -> TemplateGrammar:
        """Take the words of known templates, less those that a value has."""
        words = {word for text in templates for word in _WORD.findall(text) if not word.startswith("[")}
        words |= {word[0].upper() + word[1:] for word in words} | {word.lower() for word in words}
        return cls(tuple(sorted(word for word in words if word.casefold() not in values)))

    def schema(self, pattern: str) -> dict[str, Any]:
        """Return the JSON schema of `{"text": " TEMPLATE"}` for a pattern, for a generator that is bound.

        With a space before it: a tokenizer would make one token of the quotation mark and a slot's bracket.
        """
        slots = [rf"\[{name}\]" for name in _slots(pattern)]
        word = f"({'|'.join([*slots, *map(re.escape, self.frame)])})"
        text = {"type": "string", "pattern": f"^ {word}((,|\\.)? {word})*\\.$"}
        return {"type": "object", "properties": {"text": text}, "required": ["text"], "additionalProperties": False}

    def fault(self, template: str, pattern: str) -> str | None:
        """Return why a template may not be used for a pattern; None where it may.

        Each slot of the pattern stands in it once, no other does, and all other words are frame words.
        """
        slots = slots_of(template)
        if sorted(slots) != sorted(_slots(pattern)):
            return "its slots are not those of the facts"
        if not _PLAIN.fullmatch(template):
            return "it has other signs than words, points and commas"
        if other := [word for word in _WORD.findall(template) if word[0] != "[" and word not in self.frame]:
            return f"{other[0]!r} is no frame word"
        if re.search(r"\b(\w+) \1\b|[,.] ?[,.]|\b(?:an?|the|of|for|by|in|from|and)[.,]", template, re.I):
            return "its grammar is broken"
        plural = "kind:many" in pattern
        # An article and the verbs tell the number of the noun.
        if plural and re.search(r"\ban? (?:\[\w+\] )*\[kind\]|\b(?:It|it|is|comes)\b", template):
            return "its number is not the noun's"
        if not plural and re.search(r"\b(?:They|they|are|come)\b", template):
            return "its number is not the noun's"
        if "kind:one" in pattern and not re.search(r"\b(?:an?|the|this|one|each)\b", template, re.I):
            return "its noun lacks an article"
        return None


def _slots(pattern: str) -> list[str]:
    return [word.partition(":")[0] for word in pattern.split()]


def render(template: str, item: FactItem) -> str:
    """Fill a template with the values of an item."""
    return fill(template, item.slots)
