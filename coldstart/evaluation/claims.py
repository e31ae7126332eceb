"""What a description claims of an item, and what the record and the shown evidence say to each claim.

A claim is an attribute's value, a listed value that the summary names, or a number in any of its texts; the same claim
made twice counts once. Values are looked for as whole words in their order, by the value and its aliases; plural or
singular makes no difference. Other inflections are not seen, nor what a sentence implies without naming it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from coldstart.attributes import Attribute
from coldstart.description import Description
from coldstart.evaluation.text_measures import words

if TYPE_CHECKING:
    from coldstart.checks import Sources

NUMBER = "number"
"""Name of the claims that are numbers."""

Truth = Literal["true", "false", "open"]
"""Whether the record that was hidden states the value, states another, or says nothing of it."""

_DIGITS = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*")
_ENDING = re.compile(r"['’]s$|(?:(?<=ss)|(?<=ch)|(?<=sh)|(?<=x))es$|(?<!s)s$")


@dataclass(frozen=True)
class Claim:
    """One thing that is said.

    Attributes:
        name: of the attribute, or `number`; value: canonical where the attribute knows it.
    """

    name: str
    value: str


@dataclass(frozen=True)
class Verdict:
    """What speaks for a claim.

    Attributes:
        truth: by the hidden record.
        ground: name of the shown text that has it, `record` for a shown fact, `picture` where the calibrated label of
            the pictures agrees, or empty.
    """

    claim: Claim
    truth: Truth
    ground: str

    @property
    def is_made_up(self) -> bool:
        """Neither grounded in what was shown nor true by the hidden record."""
        return not self.ground and self.truth != "true"

    @property
    def is_number(self) -> bool:
        return self.claim.name == NUMBER


def claims(description: Description, attributes: Mapping[str, Attribute]) -> list[Claim]:
    """All claims, attributes first; those of the summary are looked for the longest value first."""
    found = [
        Claim(name, (attributes[name].canonical(value) if name in attributes else None) or value)
        for name, value in description.attributes.items()
    ]
    found += named(description.summary, attributes)
    texts = [description.summary, *description.keywords, *description.queries]
    found += [Claim(NUMBER, number) for text in texts for number in numbers(text)]
    return list(dict.fromkeys(found))


def numbers(text: str) -> list[str]:
    """The numbers in a text that no letter stands before, without commas of thousands and trailing zeros: `1,299.50`
    is `1299.5`, `7,5` is `7.5`, and `v2` has none."""
    return [_plain(digits) for digits in _DIGITS.findall(text)]


def _plain(digits: str) -> str:
    point = re.sub(r",(?=\d{3}(?!\d))", "", digits).replace(",", ".")
    return point.rstrip("0").rstrip(".") if point.count(".") == 1 else point


def judge(
    claim: Claim,
    attributes: Mapping[str, Attribute],
    truth: Mapping[str, str],
    hidden: Iterable[str],
    sources: Sources,
    min_seen: float,
) -> Verdict:
    """What the record and the shown evidence say to one claim.

    Args:
        truth: attribute -> canonical value of the record, of those that were hidden.
        hidden: the record's texts, and numbers as text, that were hidden.
        min_seen: probability that a picture must reach to be a ground.
    """
    if claim.name == NUMBER:
        stated: Truth = "true" if any(claim.value in numbers(text) for text in hidden) else "open"
        ground = next((name for name, text in sources.texts.items() if claim.value in numbers(text)), "")
        if not ground and any(claim.value in numbers(str(fact)) for fact in sources.facts.values()):
            ground = "record"
        return Verdict(claim, stated, ground)
    attribute = attributes.get(claim.name, Attribute())
    stated = "open" if claim.name not in truth else "true" if truth[claim.name] == claim.value else "false"
    return Verdict(claim, stated, ground_of(claim.name, claim.value, attribute, sources, min_seen))


def ground_of(name: str, value: str, attribute: Attribute, sources: Sources, min_seen: float) -> str:
    """What was shown that states an attribute's value: `record`, the name of a text, `picture`, or empty."""
    fact = sources.facts.get(name)
    if fact is not None and attribute.canonical(str(fact)) == value:
        return "record"
    named = [folded(one) for one in attribute.words_of(value)]
    for where, text in sources.texts.items():
        own = folded(text)
        if any(_at(own, one) >= 0 for one in named):
            return str(where)
    seen = sources.seen.get(name, {})
    return "picture" if value in seen and seen[value] >= min_seen else ""


@lru_cache(maxsize=1 << 14)
def folded(text: str) -> tuple[str, ...]:
    """The words of a text, each without the ending of an English plural or possessive."""
    return tuple(_ENDING.sub("", one) or one for one in words(text))


def _at(text: Sequence[str], phrase: Sequence[str]) -> int:
    """Place of the first word of a phrase in a text, -1 where it lacks it."""
    start = -1
    while phrase and phrase[0] in text[start + 1 :]:
        start = text.index(phrase[0], start + 1)
        if tuple(text[start : start + len(phrase)]) == tuple(phrase):
            return start
    return -1


def named(text: str, attributes: Mapping[str, Attribute]) -> Iterator[Claim]:
    """Listed values that a text names: where one lies within a longer one, the longer alone."""
    listed = [
        (folded(one), name, value)
        for name, attribute in attributes.items()
        for value in attribute.values
        for one in attribute.words_of(value)
    ]
    left = list(folded(text))
    for phrase, name, value in sorted(listed, key=lambda one: -len(one[0])):
        start = _at(left, phrase)
        if start >= 0:
            left[start : start + len(phrase)] = [""] * len(phrase)
            yield Claim(name, value)
