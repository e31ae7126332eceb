"""What free words claim: listed values, numbers, prices, brands and the rest, each asked for its ground."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from coldstart.checks.attribute_claims import not_found
from coldstart.checks.contract import Ground, Rules
from coldstart.checks.contradiction import names, price
from coldstart.checks.form import Fault, link, loop, markup, refusal, too_long
from coldstart.checks.grounding import Found, Grounds, Values
from coldstart.checks.instructions import order
from coldstart.checks.measures import Number, numbers
from coldstart.checks.support import carrying
from coldstart.checks.words import Tokens, negated, tokens


def form(text: str, most: int) -> Fault | None:
    """A fault that shows in the text by itself."""
    words = tokens(text)
    if not words:
        return "empty", "it has no words"
    return too_long(text, most) or refusal(text) or markup(text) or link(text) or order(text) or loop(words)


class Ungrounded(Exception):  # noqa: N818  (a verdict on one text, not a fault of the program)
    """A claim without a ground; `fault`: reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.fault: Fault = (reason, detail)


@dataclass(frozen=True)
class WordClaims:
    """Judges free words about one item.

    Attributes:
        stated: why its attribute values stay; their words need no other ground.
        gone: words of attribute values that were cut: those that no source has are no better in a sentence.
    """

    values: Values
    grounds: Grounds
    rules: Rules
    stated: Sequence[Ground]
    gone: frozenset[str] = frozenset()

    def judge(self, claim: str, text: str) -> list[Ground]:
        """The grounds of all that a text claims, those of listed values first.

        Args:
            claim: `summary`, `keyword` or `query`.

        Raises:
            Ungrounded: the first claim that has none.
        """
        words = tokens(text)
        meant = self.values.all.find(words)
        found: dict[str, Found] = {}
        known = set(self._own)
        makers = self.grounds.in_names(words)
        for start, end, values in meant:
            if (
                makers.isdisjoint(range(start, end))
                and not negated(words, start, end)
                and (placed := self._value(words[start:end], values))
            ):
                found.setdefault(*placed)
                known.update(words[start:end])
        measured = list(numbers(words))
        if fault := price(measured, self.grounds):
            raise Ungrounded(*fault)
        named, fault = names(
            words, self.grounds, self.rules, {at for start, end, _ in meant for at in range(start, end)}
        )
        if fault:
            raise Ungrounded(*fault)
        for value, place in (*self._measured(measured), *named.items()):
            found.setdefault(value, place)
        others = self._others(claim, words, known)
        return [Ground(claim, value, *place) for value, place in found.items()] or [Ground(claim, text, *others)]

    def _value(self, said: Tokens, values: Sequence[tuple[str, str]]) -> tuple[str, Found] | None:
        """A value that some words stand for, and its ground; None where they are words of a value that stays."""
        for name, value in values:
            if place := self.grounds.value(name, value):
                return value, place
        name, value = values[0]
        if place := self.grounds.part(said):
            return value, place
        if self._own.issuperset(said):
            return None
        if denied := self.grounds.denies(name, value):
            raise Ungrounded("other_value", f"{name} {value!r}: the record says {denied!r}")
        detail = f"{name} {value!r}: {not_found(name, value, self.grounds, self.rules)}"
        raise Ungrounded("other_value" if self.grounds.titled(name) else "ungrounded_value", detail)

    def _measured(self, measured: Sequence[Number]) -> Iterator[tuple[str, Found]]:
        for number in measured:
            place = self.grounds.number(number)
            if place is None and number.money and self.grounds.price is not None:
                place = "record", f"{self.grounds.price:g}"  # the same, but for its rounding
            if place is None:
                raise Ungrounded("ungrounded_number", f"{number.word!r} stands in no source")
            yield number.word, place

    def _others(self, claim: str, words: Tokens, known: Container[str]) -> Found:
        """What its words stand on; of a keyword's none may stand nowhere, of a longer text's a share.

        Args:
            known: words of values that were found grounded.
        """
        meant = carrying(words)
        if not meant and not any(word[0].isdigit() for word in words):
            raise Ungrounded("says_nothing", "none of its words carries meaning")
        missing = [word for word in meant if word not in known and self.grounds.word(word) is None]
        if again := [word for word in missing if word in self.gone]:
            raise Ungrounded("ungrounded_value", f"{', '.join(again)}: of an attribute that was cut")
        most = 0.0 if claim == "keyword" else self.rules.max_unsupported
        share = len(missing) / max(len(meant), 1)
        if share > most:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            if claim == "keyword":
                raise Ungrounded("ungrounded", f"no source has {shown}")
            raise Ungrounded("unsupported", f"{share:.2f} of its words stand in no source, and {most:g} may: {shown}")
        place = next(filter(None, map(self.grounds.word, meant)), self.stated[0].ground if self.stated else "record")
        return place, f"{len(meant) - len(missing)} of {len(meant)} words"

    @cached_property
    def _own(self) -> frozenset[str]:
        """All words that stand for values which stay."""
        phrases = (self.values.attributes[one.claim].words_of(one.value) for one in self.stated)
        return frozenset(word for words in phrases for phrase in words for word in tokens(phrase))
